"""Looking at a test before its end without fooling oneself: boundaries that keep the promised error over all looks.

At look k a share t_k of the planned information (items) is in; Z_k is the test statistic so far. Stop when |Z_k| >= c_k.
With c = 1.96 at five looks a difference is "found" in 14% of tests where there is none. Instead the error is spent:

    O'Brien-Fleming-like  alpha(t) = 4 (1 - Phi(z_{1 - alpha / 4} / sqrt t))        early looks must be overwhelming
    Pocock-like           alpha(t) = alpha ln(1 + (e - 1) t)                        about the same bar at every look

and c_k solves P(first crossing at k) = alpha(t_k) - alpha(t_{k-1}). S_k = Z_k sqrt(t_k) is a Brownian motion seen at t_k;
the density of paths that have not crossed goes from look to look by a convolution with a normal one.
Armitage, McPherson & Rowe 1969; Pocock 1977; O'Brien & Fleming 1979; Lan & DeMets 1983, Biometrika 70.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.statistics.estimate import STANDARD_NORMAL
from orrery.kit.errors import OrreryError

Spending = Literal["obrien_fleming", "pocock"]
NODES = 101
"""Gauss-Legendre points a look; the published boundaries to all their digits."""
FARTHEST = 8.0
"""Standard errors beyond which nothing happens (a chance of 1e-15)."""


def spent(t: float, *, alpha: float = 0.05, spending: Spending = "obrien_fleming") -> float:
    """The two-sided error that may be used up at information share `t` in [0, 1]."""
    if t <= 0:
        return 0.0
    if spending == "pocock":
        return min(alpha, alpha * math.log(1 + (math.e - 1) * t))
    return min(alpha, 2 * math.erfc(STANDARD_NORMAL.inv_cdf(1 - alpha / 4) / math.sqrt(2 * t)))


def boundaries(
    information: Sequence[float], *, alpha: float = 0.05, spending: Spending = "obrien_fleming"
) -> list[float]:
    """The |z| at which to stop, one a look.

    Looks need not be planned: boundary k depends on the looks up to k alone.

    Args:
        information: rising shares of the planned items at each look, in (0, 1]; the last is 1 for a finished test.

    Raises:
        OrreryError: shares that do not rise within (0, 1].
    """
    times = _rising(information)
    bounds: list[float] = []
    walk, before = _Walk(0.0), 0.0
    for t in times:
        now = spent(t, alpha=alpha, spending=spending)
        step = walk.to(t)
        bounds.append(_root(step.crossing, now - before))
        walk, before = step.stopped_at(bounds[-1]), now
    return bounds


def crossing_probabilities(
    information: Sequence[float], bounds: Sequence[float], *, drift: float = 0.0
) -> list[float]:
    """P(the test stops at look k), k = 1..K; with drift 0 their sum is the error, else the power.

    Args:
        drift: the expected Z at full information, effect / standard error.

    Raises:
        OrreryError: as `boundaries`, or bounds of another number.
    """
    times = _rising(information)
    if len(times) != len(bounds):
        raise OrreryError(f"there are {len(times)} looks and {len(bounds)} boundaries; give one for each")
    walk, found = _Walk(drift), []
    for t, bound in zip(times, bounds, strict=True):
        step = walk.to(t)
        found.append(step.crossing(bound))
        walk = step.stopped_at(bound)
    return found


def pocock(looks: int, *, alpha: float = 0.05) -> list[float]:
    """Pocock's original design: `looks` equally spaced, the same boundary at each (2.413 for five)."""
    return _scaled([1.0] * looks, alpha)


def obrien_fleming(looks: int, *, alpha: float = 0.05) -> list[float]:
    """O'Brien and Fleming's original design: c sqrt(K / k) at look k of K (4.56, 3.23, 2.63, 2.28, 2.04 for five)."""
    return _scaled([math.sqrt(looks / k) for k in range(1, looks + 1)], alpha)


def inflation(
    information: Sequence[float], bounds: Sequence[float], *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """How many times the items of a test with one look at the end are to be planned for the same power."""
    alone = STANDARD_NORMAL.inv_cdf(1 - alpha / 2) + STANDARD_NORMAL.inv_cdf(power)

    def missed(drift: float) -> float:
        return 1 - sum(crossing_probabilities(information, bounds, drift=drift))

    return (_root(missed, 1 - power) / alone) ** 2


class _Walk:
    """S at the last look, of the paths that have not stopped: density `f` at nodes `s` with weights `w`."""

    def __init__(self, drift: float) -> None:
        self.drift, self.t = drift, 0.0
        self.s, self.mass = np.zeros(1), np.ones(1)  # mass = w * f

    def to(self, t: float) -> _Step:
        return _Step(self, t)


class _Step:
    """From one look to the next, before it is known where the next boundary lies."""

    def __init__(self, walk: _Walk, t: float) -> None:
        self.walk, self.t = walk, t
        self.sd = math.sqrt(t - walk.t)
        self.mean = walk.s + walk.drift * (t - walk.t)  # (nodes,)

    def crossing(self, bound: float) -> float:
        """P(|S| >= bound sqrt t at this look, and no crossing before)."""
        edge = bound * math.sqrt(self.t)
        above = _upper((edge - self.mean) / self.sd) + _upper((edge + self.mean) / self.sd)
        return float(self.walk.mass @ above)

    def stopped_at(self, bound: float) -> _Walk:
        """The walk that goes on between the boundaries."""
        edge = min(bound, FARTHEST + abs(self.walk.drift)) * math.sqrt(self.t)
        nodes, weights = _nodes()
        on = _Walk(self.walk.drift)
        on.t, on.s = self.t, nodes * edge
        z = (on.s[:, None] - self.mean[None, :]) / self.sd  # (nodes now, nodes before)
        density = np.exp(-z * z / 2) @ self.walk.mass / (self.sd * math.sqrt(2 * math.pi))
        on.mass = weights * edge * density
        return on


@functools.cache
def _nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.polynomial.legendre.leggauss(NODES)


def _upper(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(N(0, 1) >= z), each; small values keep their digits."""
    return np.array([math.erfc(x) / 2 for x in (z / math.sqrt(2)).tolist()])


def _scaled(shape: Sequence[float], alpha: float) -> list[float]:
    """c * shape at equally spaced looks, c such that the error is alpha."""
    times = [(k + 1) / len(shape) for k in range(len(shape))]
    c = _root(lambda c: sum(crossing_probabilities(times, [c * x for x in shape])), alpha)
    return [c * x for x in shape]


def _root(falling: Callable[[float], float], target: float) -> float:
    """x in [0, 10] with falling(x) = target, by halving."""
    low, high = 0.0, 10.0
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > target else (low, middle)
    return (low + high) / 2


def _rising(information: Sequence[float]) -> list[float]:
    times = [float(t) for t in information]
    if not times or times[0] <= 0 or times[-1] > 1 or any(b <= a for a, b in itertools.pairwise(times)):
        raise OrreryError("information shares must rise within (0, 1], such as 0.25 0.5 0.75 1")
    return times
