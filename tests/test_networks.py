"""Every network of the field, unmodified: torch evaluation = NumPy = C++, tensor by tensor, to the bit."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from native_library import instruction_sets, lacking
from network_cases import CASES, SLOW, NetworkCase

import unetq
from unetq.export.modelfile import save
from unetq.quant.simulate import simulate
from unetq.runtime import Runtime

WIDTHS = ((8, 8), (4, 6), (2, 2))
ISAS = tuple(dict.fromkeys((instruction_sets()[0], instruction_sets()[-1])))  # all of them: test_runtime_exact


def need(case: NetworkCase) -> None:
    if case.network.endswith(("conv_unet", "encoder_unet")) and not find_spec("dynamic_network_architectures"):
        lacking("no dynamic-network-architectures: pip install 'unetq[nets]'")


def five(array: np.ndarray) -> np.ndarray:
    return array[:, :, None] if array.ndim == 4 else array


def same(label: str, expected: np.ndarray, found: np.ndarray) -> None:
    assert expected.shape == found.shape, f"{label}: {expected.shape} became {found.shape}"
    wrong = np.argwhere(~(expected == found))
    first = [(tuple(map(int, i)), expected[tuple(i)], found[tuple(i)]) for i in wrong[:4]]
    assert len(wrong) == 0, f"{label} {expected.shape}: {len(wrong)} of {expected.size} differ, first {first}"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_torch_numpy_and_the_runtime_agree(case: NetworkCase, tmp_path: Path) -> None:
    need(case)
    network, x = case.build(), case.image()
    with torch.no_grad():
        expected = network(x)
    for weight_bits, act_bits in WIDTHS:
        q = unetq.quantize(network, weight_bits, act_bits, example_input=x[:1])
        unetq.calibrate(q, [x])
        q.eval()
        label = f"{case.name} W{weight_bits}A{act_bits}"
        if weight_bits == 8:
            assert torch.allclose(q.float_forward(x), expected, atol=1e-4 * float(expected.abs().max())), label
        program = unetq.lower(q, x)
        in_torch: dict[str, torch.Tensor] = {}
        in_numpy: dict[str, np.ndarray] = {}
        logits = q.integer_forward(x, in_torch).numpy()
        same(f"{label}, NumPy", logits, program.run(x.numpy(), in_numpy))
        for name, codes in in_numpy.items():
            same(f"{label}, NumPy, {name}", five(in_torch[name].numpy()), codes.astype(np.float32))
        path = tmp_path / "m.uqm"
        save(program, path)
        for isa in ISAS:
            in_runtime: dict[str, np.ndarray] = {}
            with Runtime(path, isa=isa) as runtime:
                found = runtime.run(x.numpy(), in_runtime)
            same(f"{label}, {isa}", logits, found)
            for name, codes in in_numpy.items():
                same(f"{label}, {isa}, {name}", codes, in_runtime[name])


@pytest.mark.parametrize(
    "case", [c for c in CASES if max(c.size) < 32 and c.name not in SLOW][::3], ids=lambda c: c.name
)
def test_training_sees_what_is_lowered(case: NetworkCase) -> None:
    """The fake-quantised network's logits are the program's, up to codes that sat on a rounding boundary."""
    need(case)
    network, x = case.build(1), case.image(1)
    q = unetq.quantize(network, 8, 8, example_input=x[:1])
    unetq.calibrate(q, [x])
    with torch.no_grad():
        simulated = simulate(q, x, quantized=True, training=False)
        noise = (q.float_forward(x) - simulated).square().mean().sqrt()
    exact = q.eval()(x)
    # A flipped code spreads through the norms of a whole image; it stays far below the quantisation itself.
    assert float((simulated - exact).square().mean().sqrt()) <= 0.25 * float(noise) + 1e-6


@pytest.mark.parametrize(
    "case", [c for c in CASES if max(c.size) < 32 and c.name not in SLOW][1::4], ids=lambda c: c.name
)
def test_a_training_step_reaches_every_weight(case: NetworkCase) -> None:
    need(case)
    network, x = case.build(2), case.image(2)
    q = unetq.quantize(network, 4, 6, example_input=x[:1])
    unetq.calibrate(q, [x])
    q.train()(x).square().mean().backward()
    used = {name for block in q.blocks() for node in block.nodes for name in node.parameters.values()}
    named = {id(q.tensor(name)): name for name in used}
    learnt = [p for p in q.net.parameters() if id(p) in named]
    assert learnt and all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in learnt)
    assert sum(bool(p.grad.any()) for p in learnt if p.grad is not None) > 0.7 * len(learnt)
