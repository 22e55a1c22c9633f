"""The published quantiser: its levels and oddities as FACTS derives them, and its exact integer face."""

import numpy as np
import pytest
import torch

from unetq.errors import UnsupportedError
from unetq.quant.paper import PaperActivation, PaperWeight, paper_quantize


def published(value: float, i: int, f: int) -> float:
    """The formula of arXiv 1908.01073, a number at a time."""

    def quantize(v: float, n: int) -> float:
        return round(min(max(v, 0), 2**n - 1) * 2**n) / 2**n

    whole = float(int(abs(value)))
    sign = (value > 0) - (value < 0)
    return sign * quantize(whole, i) + sign * quantize(abs(value) - whole, f)


@pytest.mark.parametrize(("i", "f"), [(0, 2), (0, 4), (0, 6), (4, 0), (6, 0), (2, 3)])
def test_formula(i: int, f: int) -> None:
    values = np.random.default_rng(i * 10 + f).uniform(-70, 70, 3000).astype(np.float32)
    values[:1000] /= 40
    expected = [published(float(v), i, f) for v in values]
    np.testing.assert_array_equal(paper_quantize(torch.from_numpy(values), i, f).numpy(), np.float32(expected))


@pytest.mark.parametrize(("f", "levels"), [(2, 9), (4, 33), (8, 513)])
def test_weight_levels(f: int, levels: int) -> None:
    values = torch.linspace(-0.9999, 0.9999, 20001)
    assert len(paper_quantize(values, 0, f).unique()) == levels


@pytest.mark.parametrize(("i", "levels"), [(4, 31), (6, 127)])
def test_activation_levels(i: int, levels: int) -> None:
    assert len(paper_quantize(torch.linspace(-300, 300, 20001), i, 0).unique()) == levels


def test_oddities_are_kept() -> None:
    assert paper_quantize(torch.tensor([0.99]), 4, 0).item() == 0.0
    assert paper_quantize(torch.tensor([1.3]), 0, 2).item() == 0.25
    assert paper_quantize(torch.tensor([0.95]), 0, 2).item() == 1.0


def test_the_gradient_is_the_identity_everywhere() -> None:
    x = torch.tensor([-100.0, 0.3, 55.0], requires_grad=True)
    paper_quantize(x, 2, 0).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(3))


@pytest.mark.parametrize("bits", range(1, 7))
def test_weight_codes_are_the_forward(bits: int) -> None:
    weight = torch.randn(4, 3, 3, 3)
    coded = PaperWeight(bits).codes(weight.numpy())
    np.testing.assert_array_equal(coded.codes * coded.scale[0], PaperWeight(bits)(weight).numpy())
    assert coded.bits == bits + 2
    assert -(2 ** (coded.bits - 1)) <= coded.codes.min() and coded.codes.max() < 2 ** (coded.bits - 1)


def test_widths_that_do_not_fit_a_byte_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"Q0\.7 has 257"):
        PaperWeight(7).codes(np.zeros((1, 1, 1, 1), np.float32))
    with pytest.raises(UnsupportedError, match=r"Q8\.0 has 511"):
        PaperActivation(8, signed=True).grid()
    assert PaperActivation(8, signed=False).grid().high == 255
