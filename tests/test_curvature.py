"""Traces and eigenvalues by products with the Hessian, against quadratics whose Hessian is known."""

import pytest
import torch
from torch import Tensor

from unetq.curvature import Term, hessian_products, random_signs, top_eigenvalue, traces

SIZES = ((3, 2), (4,), (1, 1, 2))  # 12 values in three tensors
COUNT = 12


def quadratic(matrix: Tensor, slope: float = 0.3) -> tuple[list[Tensor], Term]:
    """Leaves, and 1/2 w' matrix w + slope sum w over all of them."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(size, generator=generator).requires_grad_() for size in SIZES]

    def term() -> Tensor:
        flat = torch.cat([w.reshape(-1) for w in weights])
        return 0.5 * flat @ matrix @ flat + slope * flat.sum()

    return weights, term


def with_spectrum(values: list[float], seed: int = 1) -> Tensor:
    """A symmetric matrix of these eigenvalues in a random basis, float32."""
    basis, _ = torch.linalg.qr(
        torch.randn(COUNT, COUNT, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    return (basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T).float()


def test_products_are_those_of_the_matrix() -> None:
    matrix = with_spectrum([float(i) - 3 for i in range(COUNT)])
    weights, term = quadratic(matrix)
    direction = random_signs(weights, torch.Generator().manual_seed(2))
    assert {float(v.abs().min()) for v in direction} == {1.0}
    flat = torch.cat([v.reshape(-1) for v in direction])
    for _, products in hessian_products(term(), weights, [direction, direction]):
        torch.testing.assert_close(torch.cat([p.reshape(-1) for p in products]), matrix @ flat, rtol=1e-5, atol=1e-5)


def test_a_linear_loss_and_an_unused_weight_have_no_curvature() -> None:
    a, b = torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)
    plain, _ = traces([lambda: 2 * a.sum()], [a, b], 2, 0)
    assert plain.tolist() == [[0.0, 0.0]] * 2
    assert top_eigenvalue([lambda: 2 * a.sum()], [a, b], 5, 1e-3, 0).value == 0.0


def test_the_trace_of_a_diagonal_needs_one_probe() -> None:
    diagonal = torch.arange(1.0, COUNT + 1)
    weights, term = quadratic(torch.diag(diagonal))
    scales = [torch.full((1,) * len(size), float(i + 1)) for i, size in enumerate(SIZES)]
    plain, scaled = traces([term, lambda: 3 * term()], weights, 1, 5, scales)  # the mean of the terms: twice the matrix
    parts = [2 * float(part.sum()) for part in diagonal.split([6, 4, 2])]
    assert plain.tolist() == [pytest.approx(parts)]
    assert scaled.tolist() == [pytest.approx([part * (i + 1) for i, part in enumerate(parts)])]


def test_traces_are_unbiased_and_their_spread_is_told() -> None:
    matrix = with_spectrum([5.0, -2.0, *([1.0] * 10)])
    weights, term = quadratic(matrix)
    plain, scaled = traces([term], weights, 400, 7)
    assert torch.equal(plain, scaled)
    whole = plain.sum(dim=1)
    off = matrix - matrix.diagonal().diag()
    assert float(whole.var()) == pytest.approx(float(2 * off.square().sum()), rel=0.4)  # Hutchinson's variance
    assert abs(float(whole.mean()) - float(matrix.trace())) < 4 * float(whole.std()) / 20
    assert 4 * float(whole.std()) / 20 < 0.2 * float(matrix.trace()), "the test says nothing"
    again, other = traces([term], weights, 400, 7)[0], traces([term], weights, 400, 8)[0]
    assert torch.equal(plain, again) and not torch.equal(plain, other)


@pytest.mark.parametrize(
    "values",
    [
        [9.0, 4.0, *([1.0] * 10)],
        [3.0, 2.9, -8.0, *([0.5] * 9)],  # the largest magnitude is not the largest value
        [-1.0, -2.0, *([-5.0] * 10)],
    ],
)
def test_the_top_eigenvalue(values: list[float]) -> None:
    weights, term = quadratic(with_spectrum(values))
    found = top_eigenvalue([term], weights, COUNT, 1e-4, 3)
    assert found.value == pytest.approx(max(values), rel=1e-4)
    assert found.residual < 1e-3 and 1 <= found.products <= COUNT


def test_a_residual_is_honest() -> None:
    values = [float(v) for v in range(1, COUNT + 1)]
    weights, term = quadratic(with_spectrum(values))
    few = [top_eigenvalue([term], weights, count, 1e-9, 3) for count in range(1, 8)]
    for found in few:
        assert min(abs(found.value - v) for v in values) <= found.residual * abs(found.value) * 1.001
    assert few[0].products == 1 and few[-1].residual < few[0].residual
    assert [f.value for f in few] == sorted(f.value for f in few)
    loose = top_eigenvalue([term], weights, COUNT, 0.2, 3)
    assert loose.residual <= 0.2 and loose.products < COUNT
