"""Exhibits of the optimisers and schedules on problems small enough to know the answer of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Series
from orrery.kit.seeds import torch_generator
from orrery.train.optim.adafactor import Adafactor
from orrery.train.optim.adagrad import Adagrad
from orrery.train.optim.adam import Adam, AdamW
from orrery.train.optim.muon import Muon
from orrery.train.optim.newton_schulz import CONVERGENT, MUON, newton_schulz
from orrery.train.optim.rmsprop import RMSprop
from orrery.train.optim.sgd import SGD
from orrery.train.schedule import (
    WSD,
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    Restarts,
    Schedule,
    Step,
    lr_at,
)

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def _descend(make: Make, loss: Callable[[Tensor], Tensor], start: list[float], steps: int) -> list[float]:
    """Losses before each step and after the last."""
    w = nn.Parameter(torch.tensor(start))
    optimizer = make([w])
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(w)
        value.backward()
        losses.append(value.item())
        optimizer.step()
    return [*losses, loss(w).item()]


def _curve(name: str, values: list[float]) -> Series:
    return Series(name=name, x=list(range(len(values))), y=values)


def gradient_descent_step_size() -> Exhibit:
    """Gradient descent on a bowl of curvature L: slow, fast, swinging, and diverging above 2 / L."""
    curvature = 4.0
    steps = {"0.05 / L": 0.05, "1 / L": 1.0, "1.9 / L": 1.9, "2.05 / L": 2.05}
    runs = {
        name: _descend(
            lambda w, lr=s / curvature: SGD(w, lr=lr), lambda w: 0.5 * curvature * w.square().sum(), [1.0], 30
        )
        for name, s in steps.items()
    }
    return Exhibit(
        title="Gradient descent on 0.5 L w^2, L = 4, from w = 1",
        columns=("step size", "loss after 1 step", "after 10", "after 30", "|1 - lr L|"),
        rows=[(n, r[1], r[10], r[30], abs(1 - steps[n])) for n, r in runs.items()],
        series=[_curve(n, [max(v, 1e-12) for v in r]) for n, r in runs.items()],
        x="step", y="loss", log_y=True,
        reads="Each step multiplies w by 1 - lr L. At 1 / L the minimum is hit at once; beyond 2 / L the factor is larger "
        "than one and the loss grows for ever.",
    )  # fmt: skip


def momentum_on_a_ravine() -> Exhibit:
    """A quadratic a hundred times steeper one way than the other, with and without momentum."""
    scales = torch.tensor([1.0, 100.0])
    lr = 1.0 / 100.0
    makers: dict[str, Make] = {
        "no momentum": lambda p: SGD(p, lr=lr),
        "momentum 0.8": lambda p: SGD(p, lr=lr, momentum=0.8),
        "Nesterov 0.8": lambda p: SGD(p, lr=lr, momentum=0.8, nesterov=True),
    }
    runs = {
        n: _descend(m, lambda w: 0.5 * (scales * w.square()).sum(), [1.0, 1.0], 400)
        for n, m in makers.items()
    }
    reached = {n: next((i for i, v in enumerate(r) if v < 1e-4), len(r)) for n, r in runs.items()}
    return Exhibit(
        title="Descent on 0.5 (x^2 + 100 y^2) from (1, 1), lr = 1 / 100",
        columns=("method", "steps until the loss is below 1e-4"),
        rows=list(reached.items()),
        series=[_curve(n, [max(v, 1e-8) for v in r]) for n, r in runs.items()],
        x="step", y="loss", log_y=True,
        reads="The steep direction forbids a larger rate and the flat one needs it. A velocity adds up the small steady "
        "gradient along the flat direction while the steep one cancels itself.",
    )  # fmt: skip


def adagrad_stalls() -> Exhibit:
    """Effective learning rate under a gradient that stays 1: Adagrad's falls for ever, RMSprop's and Adam's do not."""
    steps = 300
    makers: dict[str, Make] = {
        "Adagrad": lambda p: Adagrad(p, lr=0.1),
        "RMSprop": lambda p: RMSprop(p, lr=0.1, alpha=0.9),
        "Adam": lambda p: Adam(p, lr=0.1),
    }
    moved: dict[str, list[float]] = {}
    for name, make in makers.items():
        w = nn.Parameter(torch.zeros(1))
        optimizer, places = make([w]), [0.0]
        for _ in range(steps):
            w.grad = torch.ones(1)
            optimizer.step()
            places.append(w.item())
        moved[name] = [a - b for a, b in pairwise(places)]
    return Exhibit(
        title="How far one step moves a weight whose gradient is always 1 (lr = 0.1)",
        columns=("optimizer", "step 1", "step 10", "step 100", "step 300"),
        rows=[(n, m[0], m[9], m[99], m[299]) for n, m in moved.items()],
        series=[Series(name=n, x=list(range(1, steps + 1)), y=m) for n, m in moved.items()],
        x="step", y="size of the step", log_x=True, log_y=True,
        reads="Adagrad divides by the root of a growing sum, so its step falls as 1 / sqrt(t). A moving average forgets: "
        "RMSprop settles at lr (after large first steps, because its average starts at zero), and Adam, which "
        "corrects for that start, takes steps of lr from the first.",
    )  # fmt: skip


def weight_decay_coupled() -> Exhibit:
    """What a decay of 0.1 leaves of a weight under Adam and AdamW, for small and large gradient noise."""
    rows = []
    for noise in (0.0, 0.01, 1.0, 100.0):
        left = []
        for kind in (Adam, AdamW):
            w = nn.Parameter(torch.ones(256))
            optimizer = kind([w], lr=1e-2, weight_decay=0.1)
            generator = torch_generator(0, "weight-decay", kind.__name__, str(noise))
            for _ in range(500):
                w.grad = noise * torch.randn(256, generator=generator)
                optimizer.step()
            left.append(w.mean().item())
        rows.append((noise, *left, (1 - 1e-2 * 0.1) ** 500))
    return Exhibit(
        title="Mean of 256 weights that start at 1, after 500 steps of pure gradient noise, decay 0.1, lr 0.01",
        columns=(
            "noise of the gradient",
            "Adam (decay in the gradient)",
            "AdamW (decoupled)",
            "(1 - lr wd)^500",
        ),
        rows=rows,
        reads="Adam divides the decay by the same sqrt(v) as the gradient: where gradients are large the decay all but "
        "vanishes, and where they are zero it is a full step of lr towards zero. AdamW shrinks every weight alike.",
    )


def decay_by_hand() -> Exhibit:
    """Ten steps without any gradient: what decoupled decay does to a weight, against (1 - lr wd)^t."""
    w = nn.Parameter(torch.tensor([2.0]))
    optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
    places = [w.item()]
    for _ in range(10):
        w.grad = torch.zeros(1)
        optimizer.step()
        places.append(w.item())
    return Exhibit(
        title="A weight of 2 with gradient 0 under AdamW, lr = 0.1, decay = 0.5",
        columns=("step", "weight", "2 (1 - 0.05)^t"),
        rows=[(t, v, 2 * 0.95**t) for t, v in enumerate(places)],
        reads="Without a gradient the weight shrinks by the factor 1 - lr wd a step and by nothing else.",
    )


def optimizer_state_bytes() -> Exhibit:
    """Bytes of optimiser state for one 1024 x 4096 matrix, counted after a step."""
    makers: dict[str, Make] = {
        "SGD": lambda p: SGD(p),
        "SGD, momentum": lambda p: SGD(p, momentum=0.9),
        "Adagrad": lambda p: Adagrad(p),
        "Muon": lambda p: Muon(p, ns_steps=1),
        "Adam / AdamW": lambda p: AdamW(p),
        "Adafactor": lambda p: Adafactor(p),
    }
    rows = []
    for name, make in makers.items():
        w = nn.Parameter(torch.zeros(1024, 4096))
        w.grad = torch.full_like(w, 1e-3)
        optimizer = make([w])
        optimizer.step()
        tensors = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        size = sum(t.numel() * t.element_size() for t in tensors)
        rows.append((name, size, size / w.numel()))
    return Exhibit(
        title="Optimiser state of a 1024 x 4096 fp32 matrix (16,777,216 bytes of weights)",
        columns=("optimizer", "state bytes", "bytes a weight"),
        rows=rows,
        reads="Adam keeps two numbers a weight (8 bytes in fp32), momentum and Muon one. Adafactor keeps one number a row "
        "and one a column: 1024 + 4096 in place of four million.",
    )


def newton_schulz_singular_values() -> Exhibit:
    """Singular values of a random matrix through the iteration, with Muon's coefficients and with converging ones."""
    matrix = torch.randn(96, 64, generator=torch_generator(0, "newton-schulz"))
    kinds = {"Muon": MUON, "converging": CONVERGENT}
    rows, spread = [], {name: ([], []) for name in kinds}  # type: ignore[var-annotated]
    for steps in range(9):
        row: list[float | int] = [steps]
        for name, coefficients in kinds.items():
            s = torch.linalg.svdvals(newton_schulz(matrix, steps, coefficients=coefficients))
            row += [s.min().item(), s.max().item()]
            spread[name][0].append(s.min().item())
            spread[name][1].append(s.max().item())
        rows.append(tuple(row))
    series = [
        Series(name=f"{name}, {which}", x=list(range(9)), y=values)
        for name, pair in spread.items()
        for which, values in zip(("smallest", "largest"), pair, strict=True)
    ]
    return Exhibit(
        title="Singular values of a 96 x 64 Gaussian matrix by Newton-Schulz step",
        columns=("steps", "Muon: min", "max", "converging: min", "max"),
        rows=rows,
        series=series,
        x="step",
        y="singular value",
        reads="Both polynomials lift every singular value towards 1 with matrix products alone. Muon's is steeper at zero and "
        "never settles (values stay between about 0.7 and 1.2, good enough for an update); the other converges, later.",
    )


def muon_update_spectrum() -> Exhibit:
    """One gradient of rank 2 plus noise: how unequal its directions are as SGD, Adam and Muon apply it."""
    generator = torch_generator(0, "muon-spectrum")
    strong = torch.randn(64, 2, generator=generator) @ torch.randn(2, 64, generator=generator)
    gradient = strong + 0.05 * torch.randn(64, 64, generator=generator)
    rows = []
    for name, make in {
        "SGD": lambda p: SGD(p, lr=1.0),
        "Adam": lambda p: Adam(p, lr=1.0),
        "Muon": lambda p: Muon(p, lr=1.0),
    }.items():
        w = nn.Parameter(torch.zeros(64, 64))
        w.grad = gradient.clone()
        make([w]).step()
        s = torch.linalg.svdvals(w.detach())
        rows.append((name, s[0].item(), s[1].item(), s[2].item(), s[32].item(), (s[0] / s[32]).item()))
    return Exhibit(
        title="Singular values of the first update, from a gradient with two strong directions",
        columns=("optimizer", "1st", "2nd", "3rd", "33rd", "1st / 33rd"),
        rows=rows,
        reads="SGD moves the weights along the two strong directions alone, Adam mostly. Muon gives every direction the gradient "
        "holds about the same length, the rare ones too.",
    )


def schedules_drawn() -> Exhibit:
    """The learning-rate multiplier of every schedule over a run of 1000 steps."""
    total = 1000
    schedules: dict[str, Schedule] = {
        "constant": Constant(warmup=50),
        "linear": Linear(warmup=50),
        "cosine, floor 0.1": Cosine(warmup=50, floor=0.1),
        "wsd": WSD(warmup=50, decay=200),
        "restarts": Restarts(warmup=50, cycle=250),
        "step": Step(warmup=50),
        "inverse-sqrt": InverseSqrt(warmup=50),
    }
    at = (0, 49, 50, 500, 525, 900, 999)
    points = list(range(0, total, 10))
    return Exhibit(
        title="Learning-rate multiplier over 1000 steps, 50 of them warmup",
        columns=("schedule", *(f"step {s}" for s in at)),
        rows=[(n, *(lr_at(s, step, total) for step in at)) for n, s in schedules.items()],
        series=[Series(name=n, x=points, y=[lr_at(s, p, total) for p in points]) for n, s in schedules.items()],
        x="step", y="multiplier",
        reads="All rise in a line to 1 over the warmup. A multiplier is a pure function of (schedule, step, total), so a resumed "
        "run needs no schedule state.",
    )  # fmt: skip


def adam_three_steps() -> Exhibit:
    """Adam's moments and steps for gradients 1, 2, 3, as one works them out by hand."""
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = Adam([w], lr=0.1, betas=(0.9, 0.999), eps=1e-8)
    rows, before = [], 0.0
    for t, g in enumerate((1.0, 2.0, 3.0), start=1):
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        state = optimizer.state[w]
        m, v = state["exp_avg"].item(), state["exp_avg_sq"].item()
        rows.append((t, g, m, m / (1 - 0.9**t), v, v / (1 - 0.999**t), w.item() - before))
        before = w.item()
    return Exhibit(
        title="Adam by hand: lr 0.1, betas (0.9, 0.999)",
        columns=("t", "g", "m", "m corrected", "v", "v corrected", "step"),
        rows=rows,
        reads="The first corrected moments equal g and g^2, so the first step is exactly lr whatever the gradient's size. Later "
        "steps are lr times the ratio of a mean to a root mean square.",
    )
