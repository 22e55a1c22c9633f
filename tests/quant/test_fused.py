"""The fused fake quantisation: forward exactly the definition, gradients by their formulas, kernels like torch."""

import numpy as np
import pytest
import torch
from native_library import lacking

from unetq.fixedpoint import Grid, dequantize, quantize
from unetq.quant.fused import learned_step, quantize_backward, quantize_forward
from unetq.quant.training_library import VARIABLE, kernels_in_use, load, training_library

LIMITS = [(-32, 31), (0, 63), (-2, 1), (-7, 7), (-128, 127), (-5, 250)]


@pytest.fixture(params=["kernels", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations; the kernels come with `make native`."""
    monkeypatch.setenv(VARIABLE, "off") if request.param == "torch" else monkeypatch.delenv(VARIABLE, raising=False)
    if request.param == "kernels" and training_library() is None:
        lacking(kernels_in_use())
    return str(request.param)


def values(count: int, seed: int, reach: float) -> torch.Tensor:
    """Normal values with ties, limits, zeros, signs and infinities among them."""
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * reach
    special = torch.tensor([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 3.5, -2.5, 1e30, -1e30, float("inf"), -float("inf")])
    x[: len(special)] = special
    return x


@pytest.mark.parametrize(("low", "high"), LIMITS)
@pytest.mark.parametrize("step", [0.25, 1.0, 0.0371, 3.3])
@pytest.mark.parametrize("count", [12, 4095, 4096, 9001])
def test_forward_is_the_definition(way: str, low: int, high: int, step: float, count: int) -> None:
    x = values(count, 1, 20 * step)
    got = quantize_forward(x, torch.tensor(step), low, high).numpy()
    inverse = np.float32(1) / np.float32(step)
    codes = np.clip(np.rint(x.numpy() * inverse), low, high)
    np.testing.assert_array_equal(got, codes.astype(np.float32) * np.float32(step))


@pytest.mark.parametrize("step", [0.5, 0.0371])
def test_forward_is_the_grid_of_the_program(way: str, step: float) -> None:
    grid = Grid(bits=6, signed=False, scale=float(np.float32(step)), zero_point=9)
    x = values(5000, 2, 40 * step)
    got = quantize_forward(x, torch.tensor(grid.scale), grid.low - 9, grid.high - 9).numpy()
    np.testing.assert_array_equal(got, dequantize(quantize(x.numpy(), grid), grid))


def test_bfloat16_rounds_once(way: str) -> None:
    x = values(5000, 3, 4.0).to(torch.bfloat16)
    for step in (0.125, 0.0371):
        wide = quantize_forward(x.float(), torch.tensor(step), -32, 31)
        assert torch.equal(quantize_forward(x, torch.tensor(step), -32, 31), wide.to(torch.bfloat16))


def test_nan_stays_and_gives_no_gradient(way: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.full((20,), float("nan"), dtype=dtype)
        assert quantize_forward(x, torch.tensor(1.0), -8, 7).isnan().all()
        grad_x, sums = quantize_backward(torch.ones_like(x), x, torch.tensor(1.0), -8, 7)
        assert grad_x is not None and sums is not None
        assert not grad_x.any() and sums.inside == sums.below == sums.above == 0


@pytest.mark.parametrize(("low", "high"), LIMITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [13, 4096, 10007])
def test_backward_follows_the_formulas(way: str, low: int, high: int, dtype: torch.dtype, count: int) -> None:
    x, step = (values(count, 4, 12.0) if count > 20 else torch.linspace(-9, 300, count)).to(dtype), torch.tensor(0.3)
    grad = torch.randn(count, generator=torch.Generator().manual_seed(5)).to(dtype)
    grad_x, sums = quantize_backward(grad, x, step, low, high)
    scaled = x.float().numpy() * (np.float32(1) / np.float32(0.3))
    g = grad.double().numpy()
    inside = (scaled >= low) & (scaled <= high)
    assert grad_x is not None and sums is not None
    np.testing.assert_array_equal(grad_x.float().numpy(), grad.float().numpy() * inside)
    error = np.where(inside, np.rint(scaled).astype(np.float64) - np.clip(scaled, low, high), 0.0)
    expected = ((g * error).sum(), g[scaled < low].sum(), g[scaled > high].sum())
    got = (sums.inside, sums.below, sums.above)
    np.testing.assert_allclose([float(v) for v in got], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        float(sums.lsq(low, high)), expected[0] + low * expected[1] + high * expected[2], rtol=1e-4, atol=1e-2
    )


def test_only_what_is_wanted_is_made(way: str) -> None:
    x, step = values(100, 1, 3.0), torch.tensor(1.0)
    assert quantize_backward(x, x, step, -8, 7, want_x=False)[0] is None
    assert quantize_backward(x, x, step, -8, 7, want_sums=False)[1] is None


SHAPES = [((6, 5, 3, 3), (6, 1, 1, 1)), ((5, 6, 2, 2), (1, 6, 1, 1)), ((4, 3, 3), (4, 1, 1)), ((2, 3, 4, 5), ())]


@pytest.mark.parametrize(("shape", "own"), SHAPES)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_a_step_a_channel_in_any_memory_format(
    way: str, shape: tuple[int, ...], own: tuple[int, ...], last: bool, dense: bool
) -> None:
    generator = torch.Generator().manual_seed(6)
    x, grad = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    step = torch.rand(own, generator=generator) * 0.5 + 0.1
    expected, (grad_x, sums) = quantize_forward(x, step, -4, 3), quantize_backward(grad, x, step, -4, 3)
    assert torch.equal(expected, (x * (1 / step)).clamp(-4, 3).round() * step)
    if last and len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    if not dense:
        x = torch.stack([x, x], dim=-1)[..., 0]
    y, (again, totals) = quantize_forward(x, step, -4, 3), quantize_backward(grad, x, step, -4, 3)
    assert torch.equal(y, expected) and again is not None and grad_x is not None and torch.equal(again, grad_x)
    assert sums is not None and totals is not None
    torch.testing.assert_close(totals.lsq(-4, 3), sums.lsq(-4, 3))
    if dense:
        assert y.stride() == again.stride() == x.stride()


def test_neither_threads_nor_instruction_set_show(monkeypatch: pytest.MonkeyPatch) -> None:
    if training_library() is None:
        lacking(kernels_in_use())
    x = values(500_000, 7, 5.0).to(torch.bfloat16)
    grad = values(500_000, 8, 1.0).clamp(-3, 3).to(torch.bfloat16)
    seen, before = [], torch.get_num_threads()
    try:
        for threads, isa in ((1, ""), (3, ""), (1, "avx2"), (2, "scalar")):
            torch.set_num_threads(threads)
            monkeypatch.setenv("UNETQ_ISA", isa)
            grad_x, sums = quantize_backward(grad, x, torch.tensor(0.1), -8, 7)
            assert grad_x is not None and sums is not None
            seen.append((quantize_forward(x, torch.tensor(0.1), -8, 7), grad_x, sums.lsq(-8, 7)))
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


def test_learned_step_is_lsq(way: str) -> None:
    x = torch.tensor([-5.0, -1.3, -0.2, 0.4, 0.9, 1.2, 7.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    (learned_step(x, step, -4, 3, 0.25) * torch.arange(7.0)).sum().backward()
    scaled = x.detach() / 0.5
    inside = (scaled >= -4) & (scaled <= 3)
    torch.testing.assert_close(x.grad, torch.arange(7.0) * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(-4, 3))
    torch.testing.assert_close(step.grad, (slope * torch.arange(7.0)).sum() * 0.25)


def test_why_there_are_no_kernels(tmp_path: object) -> None:
    assert load(f"{tmp_path}/none.so")[1].endswith("`make native` or installing the package compiles it")
    assert load("off") == (None, f"switched off by {VARIABLE}=off")
    (bad := tmp_path / "bad.so").write_bytes(b"no library")  # type: ignore[operator]
    assert "cannot be loaded" in load(str(bad))[1]
