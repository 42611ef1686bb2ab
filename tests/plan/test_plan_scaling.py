from __future__ import annotations

import pytest

from orrery.plan.scaling import BESIROGLU, HOFFMANN, HOFFMANN_UNROUNDED

# FLOPs: optimal parameters and tokens, and the loss there, by the constants of each paper
ALLOCATIONS = [
    (HOFFMANN, 1e18, 80.58e6, 2.068e9, 3.5353),
    (HOFFMANN, 1e20, 644.9e6, 25.85e9, 2.5998),
    (HOFFMANN, 1e22, 5.160e9, 323.0e9, 2.1386),
    (HOFFMANN, 5.76e23, 32.19e9, 2.982e12, 1.9307),
    (BESIROGLU, 1e18, 80.53e6, 2.070e9, 3.4905),
    (BESIROGLU, 1e20, 853.5e6, 19.53e9, 2.5534),
    (BESIROGLU, 1e22, 9.045e9, 184.3e9, 2.1411),
    (BESIROGLU, 5.76e23, 72.25e9, 1.329e12, 1.9744),
]


@pytest.mark.parametrize(("law", "flops", "parameters", "tokens", "loss"), ALLOCATIONS)
def test_optimal_allocation(law, flops, parameters, tokens, loss) -> None:
    n, d = law.optimal(flops)
    assert (n, d) == (pytest.approx(parameters, rel=1e-3), pytest.approx(tokens, rel=1e-3))
    assert law.loss(n, d) == pytest.approx(loss, abs=1e-4)
    assert 6 * n * d == pytest.approx(flops)
    assert law.tokens_for(n) == pytest.approx(d)


@pytest.mark.parametrize(
    ("law", "a"), [(HOFFMANN, 0.4516), (HOFFMANN_UNROUNDED, 0.4565), (BESIROGLU, 0.5126)]
)
def test_exponents(law, a) -> None:
    """The printed constants give 0.45, the unrounded ones the paper's own 0.46."""
    assert law.a == pytest.approx(a, abs=5e-5)
    assert law.a + law.b == pytest.approx(1)


def test_the_optimum_is_one() -> None:
    n, d = BESIROGLU.optimal(1e20)
    assert all(BESIROGLU.loss(n * f, d / f) > BESIROGLU.loss(n, d) for f in (0.9, 1.1))


def test_losses_at_published_points() -> None:
    """Chinchilla (70 B, 1.4 T) beats Gopher (280 B, 300 B) under either fit."""
    assert HOFFMANN.loss(70e9, 1.4e12) == pytest.approx(1.9366, abs=1e-4)
    assert HOFFMANN.loss(280e9, 300e9) == pytest.approx(1.9933, abs=1e-4)
    assert BESIROGLU.loss(70e9, 1.4e12) == pytest.approx(1.9739, abs=1e-4)
