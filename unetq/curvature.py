"""The Hessian H of a loss in a network's weights, by products H v alone: traces and the top eigenvalue.

H v is the gradient of g' v, g the gradient of the loss (Pearlmutter 1994). The trace is the mean of v' H v over random
signs v (Hutchinson 1990). The largest eigenvalue comes from Lanczos' method, which finds in the space that power
iteration spans the best vector instead of the last one, so that it is never worse for as many products (Golub and Van
Loan, Matrix Computations, section 10.1). At the kinks of ReLU and max-pooling, which are met with probability 0, H is
that of the smooth piece.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Term = Callable[[], Tensor]
"""A part of the loss at the weights as they are, a differentiable scalar; the loss is the mean of its terms."""


def random_signs(weights: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """A vector of random signs, -1 or 1, in the shapes of ``weights``; drawn on the CPU, alike for every device."""
    return [torch.randint(0, 2, w.shape, generator=generator).to(w) * 2 - 1 for w in weights]


def hessian_products(
    value: Tensor, weights: Sequence[Tensor], directions: Iterable[Sequence[Tensor]]
) -> Iterator[tuple[Sequence[Tensor], list[Tensor]]]:
    """Each of ``directions`` v with H v, H the Hessian of the scalar ``value`` in ``weights``, in their shapes."""
    gradients = torch.autograd.grad(value, weights, create_graph=True, materialize_grads=True)
    for direction in directions:
        along = torch.stack([(g * v).sum() for g, v in zip(gradients, direction, strict=True)]).sum()
        if along.requires_grad:
            products = torch.autograd.grad(along, weights, retain_graph=True, materialize_grads=True)
        else:  # the loss is linear in the weights
            products = tuple(torch.zeros_like(w) for w in weights)
        yield direction, [product.detach() for product in products]


def traces(
    terms: Sequence[Term],
    weights: Sequence[Tensor],
    probes: int,
    seed: int,
    scales: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Samples of sum_i H_ii and of sum_i c_i H_ii in each of ``weights``, both float64 (probes, weights).

    Their mean over probes is unbiased, and its standard error the samples' deviation over sqrt(probes). One probe takes
    the same signs in all terms, so that it samples H of the whole loss.

    Args:
        terms: of the loss. weights: leaves that require gradients.
        probes: 1 or more vectors of signs; ``seed`` decides them.
        scales: c, tensors that broadcast to ``weights``; None for ones.
    """
    plain = torch.zeros(probes, len(weights), dtype=torch.float64)
    scaled = torch.zeros_like(plain)
    for term in terms:
        generator = torch.Generator().manual_seed(seed)
        signs = (random_signs(weights, generator) for _ in range(probes))
        for probe, (v, products) in enumerate(hessian_products(term(), weights, signs)):
            for column, (sign, product) in enumerate(zip(v, products, strict=True)):
                form = (sign * product).double()
                plain[probe, column] += float(form.sum()) / len(terms)
                scaled[probe, column] += float((form * scales[column]).sum() if scales else form.sum()) / len(terms)
    return plain, scaled


@dataclass(frozen=True)
class Eigenvalue:
    """``residual`` is |H v - value * v| / |value| for its unit vector v: some eigenvalue is that near, relatively."""

    value: float
    residual: float
    products: int


def top_eigenvalue(
    terms: Sequence[Term], weights: Sequence[Tensor], products: int, tolerance: float, seed: int
) -> Eigenvalue:
    """The largest eigenvalue (not the largest magnitude) of the loss's Hessian.

    Args:
        terms, weights: as of ``traces``. products: at most so many products H v, 1 or more.
        tolerance: of the residual, at which it stops earlier. seed: of the first vector.

    Returns:
        The best within ``products``; its residual says how good it is. Of a Hessian of zeros value and residual are 0.
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.cat([torch.randn(w.shape, generator=generator).reshape(-1) for w in weights])
    basis = [first / first.norm()]
    diagonal: list[float] = []
    beside: list[float] = []
    found = Eigenvalue(0.0, 0.0, 0)
    for count in range(1, min(products, first.numel()) + 1):
        product = _product(terms, weights, basis[-1])
        diagonal.append(float(product.double() @ basis[-1].double()))
        for _ in range(2):  # twice is enough (Parlett): the basis stays orthogonal in float32
            for vector in basis:
                product -= float(product.double() @ vector.double()) * vector
        length = float(product.double().norm())
        found = _ritz(diagonal, beside, length, count)
        if length <= 1e-7 * max(abs(found.value), 1e-30) or found.residual <= tolerance:
            break
        beside.append(length)
        basis.append(product / length)
    return found


def _product(terms: Sequence[Term], weights: Sequence[Tensor], flat: Tensor) -> Tensor:
    """H v for a flat v, flat float32 on the CPU."""
    parts = torch.split(flat, [w.numel() for w in weights])
    direction = [part.reshape(w.shape).to(w) for part, w in zip(parts, weights, strict=True)]
    total = torch.zeros_like(flat)
    for term in terms:
        for _, products in hessian_products(term(), weights, [direction]):
            total += torch.cat([p.reshape(-1).cpu() for p in products]) / len(terms)
    return total


def _ritz(diagonal: Sequence[float], beside: Sequence[float], length: float, count: int) -> Eigenvalue:
    """The largest Ritz value of the tridiagonal matrix; ``length`` is what is left of the last product."""
    values, vectors = torch.linalg.eigh(
        torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        + torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
        + torch.diag(torch.tensor(beside, dtype=torch.float64), -1)
    )
    value, error = float(values[-1]), length * abs(float(vectors[-1, -1]))
    return Eigenvalue(value, error / abs(value) if value else 0.0, count)
