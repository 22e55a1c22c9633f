"""Torch evaluation equals the NumPy executor, tensor by tensor, on random networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from random_networks import random_case

import unetq
from unetq.quant.simulate import simulate
from unetq.runtime import available_isas

CASES = 500
GROUPS = 50


def quantised(seed: int) -> tuple[unetq.QuantNet, torch.Tensor]:
    case = random_case(seed)
    q = unetq.quantize(case.net, example_input=case.x[:1], **case.settings)
    unetq.calibrate(q, [case.x])
    return q.eval(), case.x


def five(array: np.ndarray) -> np.ndarray:
    return array[:, :, None] if array.ndim == 4 else array


def assert_same(name: str, expected: np.ndarray, found: np.ndarray, seed: int) -> None:
    assert expected.shape == found.shape, f"seed {seed}, tensor {name}: shapes {expected.shape}, {found.shape}"
    wrong = np.argwhere(~(expected == found))
    first = [(tuple(int(v) for v in i), expected[tuple(i)], found[tuple(i)]) for i in wrong[:5]]
    assert len(wrong) == 0, f"seed {seed}, tensor {name} {expected.shape}: {len(wrong)} mismatches, first {first}"


@pytest.mark.parametrize("group", range(GROUPS))
def test_torch_numpy_and_every_runtime_path_agree(group: int, tmp_path: Path) -> None:
    for seed in range(group * CASES // GROUPS, (group + 1) * CASES // GROUPS):
        q, x = quantised(seed)
        program = unetq.lower(q, x)
        in_torch: dict[str, torch.Tensor] = {}
        logits = q.integer_forward(x, in_torch).numpy()
        in_numpy: dict[str, np.ndarray] = {}
        assert_same("logits (NumPy)", logits, program.run(x.numpy(), in_numpy), seed)
        for name, codes in in_numpy.items():
            assert_same(name, five(in_torch[name].numpy()), codes.astype(np.float32), seed)
        path = tmp_path / "m.uqm"
        program.save(path)
        for isa in available_isas():
            in_runtime: dict[str, np.ndarray] = {}
            found = unetq.Runtime(path, isa=isa).run(x.numpy(), in_runtime)
            assert_same(f"logits ({isa})", logits, found, seed)
            assert set(in_runtime) == set(in_numpy)
            for name, codes in in_numpy.items():
                assert_same(f"{name} ({isa})", codes, in_runtime[name], seed)


@pytest.mark.parametrize("seed", range(60))
def test_lowering_keeps_what_training_simulates(seed: int) -> None:
    """The program's logits are the fake-quantised network's, up to codes that sat on a rounding boundary."""
    q, x = quantised(seed)
    with torch.no_grad():
        simulated = simulate(q, x, quantized=True, training=False)
    exact = q(x)
    scale = exact.abs().max().item() + 1e-12
    share = ((simulated - exact).abs() > 1e-4 * scale).float().mean().item()
    assert share < 0.02, f"seed {seed}: {share:.1%} of the logits differ"
