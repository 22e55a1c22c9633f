"""The ONNX model computes what the program does: onnxruntime against the NumPy executor."""

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from random_networks import random_case
from random_programs import random_float_program, random_input, random_integer_program

import unetq
from unetq.export.program import Program
from unetq.preprocess import decide

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_programs import in_onnx, session  # noqa: E402

from unetq.onnx.grids import is_power_of_two  # noqa: E402
from unetq.onnx.model import build  # noqa: E402

SEEDS = range(80)
WIDTHS = [(8, 8), (4, 6), (2, 2)]


def has_norm(program: Program) -> bool:
    epilogues = [getattr(op, "epilogue", None) for op in program.ops]
    return any(e is not None and e.instance_norm is not None for e in epilogues)


def in_powers_of_two(program: Program) -> bool:
    grids = [t.grid for t in program.tensors if t.grid is not None]
    return all(is_power_of_two(g.scale) and g.zero_point == 0 for g in grids)


@pytest.mark.parametrize("opset", [13, 17, 21, 23])
def test_random_programs(opset: int) -> None:
    """Equal to the bit where nothing is inexact; otherwise up to float32's last bits."""
    exact, near, kinds = 0, 0, set()
    for seed in SEEDS if opset in (17, 21) else SEEDS[:30]:
        program = random_integer_program(seed)
        if has_norm(program):
            continue
        x = random_input(program, seed, batch=2)
        expected, found = program.run(x), in_onnx(program, x, opset)
        kinds |= {type(op).__name__ for op in program.ops}
        if in_powers_of_two(program) and not any(t.grid is not None and t.grid.dynamic for t in program.tensors):
            assert np.array_equal(found, expected), f"seed {seed}, opset {opset}"
            exact += 1
        else:
            np.testing.assert_allclose(
                found, expected, rtol=1e-5, atol=1e-5 * float(np.ptp(expected)) + 1e-6, err_msg=f"seed {seed}"
            )
            near += 1
    assert exact >= 5 and near >= 10
    if opset == 21:
        every = {"Quantize", "Conv", "Upsample", "MaxPool", "Add", "Pointwise", "Concat", "Pad", "Table", "Mul"}
        assert kinds == every


def test_random_programs_with_norms() -> None:
    """Spelled out in float64 the norms' gains and offsets are the program's own, below opset 18 and above."""
    total = 0
    for seed in SEEDS:
        program = random_integer_program(seed)
        if has_norm(program):
            x = random_input(program, seed, batch=2)
            expected = program.run(x)
            for opset in (17, 21):
                found, total = in_onnx(program, x, opset), total + 1
                atol = 1e-5 * float(np.ptp(expected)) + 1e-6
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol, err_msg=f"seed {seed}, opset {opset}")
    assert total >= 40


def test_norms_as_nodes() -> None:
    """Their statistics are float32: single codes move, but most images have none that does."""
    differ, total, kinds = 0, 0, set()
    for seed in SEEDS:
        program = random_integer_program(seed)
        if has_norm(program):
            x = random_input(program, seed, batch=2)
            expected = program.run(x)
            tolerance = 1e-4 * float(np.ptp(expected)) + 1e-6
            for opset in (18, 21):  # group norm from an instance norm of groups, and as one node
                model = build(program, opset=opset, norm_nodes=True)
                kinds |= {node.op_type for node in model.graph.node}
                assert all(t.data_type != onnx.TensorProto.DOUBLE for t in model.graph.initializer)
                far = np.abs(session(model).run(None, {"image": x})[0] - expected) > tolerance
                differ, total = differ + int(far.any()), total + 1
    assert {"InstanceNormalization", "GroupNormalization"} <= kinds
    assert total >= 40 and differ <= 0.08 * total, f"{differ} of {total} programs differ"


def test_random_float_programs() -> None:
    for seed in range(40):
        program = random_float_program(seed)
        x = random_input(program, seed, batch=2)
        expected = program.run(x)
        error = np.abs(in_onnx(program, x) - expected).max(initial=0.0)
        assert error <= 1e-3 * float(np.ptp(expected)) + 1e-6, f"seed {seed}: {error}"


@pytest.mark.parametrize("bits", WIDTHS)
def test_masks_of_random_networks(bits: tuple[int, int]) -> None:
    equal, pixels = 0, 0
    for seed in range(15):
        case = random_case(seed)
        settings = {**case.settings, "weight_bits": bits[0], "act_bits": bits[1]}
        if max(bits) > 6:
            settings["method"] = "fixed"
        q = unetq.quantize(case.net, example_input=case.x[:1], **settings)
        unetq.calibrate(q, [case.x])
        with torch.no_grad():
            expected = q.eval()(case.x).numpy()
        found = in_onnx(unetq.lower(q, case.x), case.x.numpy())
        for a, b in zip(found, expected, strict=True):
            equal, pixels = equal + int((decide(a) == decide(b)).sum()), pixels + decide(b).size
    assert equal >= 0.999 * pixels, f"{equal} of {pixels} pixels agree"


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_logits_of_a_deep_network_with_norms(bits: tuple[int, int]) -> None:
    """MONAI's BasicUNet: 18 instance norms behind one another would spread a single wrong code over the image."""
    torch.manual_seed(1)
    net = BasicUNet(2, 1, 2, (4, 4, 8, 16, 16, 4))
    x = torch.from_numpy(np.random.default_rng(4).standard_normal((1, 1, 64, 80)).astype(np.float32))
    q = unetq.quantize(net, example_input=x, weight_bits=bits[0], act_bits=bits[1])
    unetq.calibrate(q, [x])
    program = unetq.lower(q.eval(), x)
    with torch.no_grad():
        assert np.array_equal(in_onnx(program, x.numpy()), q(x).numpy())
