"""Passes keep every code: the folded program equals the unfolded one."""

import numpy as np
import pytest
import torch
from random_networks import random_case

from unetq import calibrate, quantize
from unetq.export.passes import drop_unused, fold_concat
from unetq.export.program import Concat, Conv


@pytest.mark.parametrize("seed", range(40))
def test_folding_concatenations_changes_nothing(seed: int) -> None:
    case = random_case(seed)
    q = quantize(case.net, example_input=case.x[:1], **case.settings)
    calibrate(q, [case.x])
    program = q.program(tuple(case.x.shape[2:]))
    folded = fold_concat(program)
    before: dict[str, np.ndarray] = {}
    after: dict[str, np.ndarray] = {}
    np.testing.assert_array_equal(program.run(case.x.numpy(), before), folded.run(case.x.numpy(), after))
    for name, codes in after.items():
        np.testing.assert_array_equal(codes, before[name])
    for op in folded.ops:
        if isinstance(op, Concat):
            readers = [r for r in folded.ops if op.output in r.inputs]
            assert op.output == folded.output or any(not isinstance(r, Conv) or r.groups > 1 for r in readers)


def test_unused_operations_are_dropped() -> None:
    case = random_case(1)
    q = quantize(case.net, example_input=case.x[:1], **case.settings)
    calibrate(q, [case.x])
    program = fold_concat(q.program(tuple(case.x.shape[2:])))
    early = next(op for op in program.ops if isinstance(op, Conv))
    cut = drop_unused(
        type(program)(program.tensors, program.ops, program.input, early.output, program.spatial_rank, (1, 1, 1))
    )
    assert len(cut.ops) < len(program.ops) and cut.ops[-1].name == early.name
    assert torch.is_tensor(case.x)
