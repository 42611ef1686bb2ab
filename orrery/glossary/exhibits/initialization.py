"""Exhibits of how weights begin and what depth does to signals and gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.norm import LayerNorm, RMSNorm
from orrery.model.probe import record
from orrery.model.surgery import replace
from orrery.train.init import Kind, initialize


def _stack(depth: int, width: int, activation: nn.Module) -> nn.Sequential:
    """Plain layers without norms or residuals: what initialisation alone must carry."""
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width, bias=False), activation)]
    return nn.Sequential(*layers)


def init_variance_by_depth() -> Exhibit:
    """Size of the activations through 50 plain layers under four initialisations."""
    depth, width = 50, 128
    x = torch.randn(64, width, generator=torch_generator(0, "input"))
    cases: dict[str, tuple[Kind, nn.Module]] = {
        "normal 0.02, ReLU": ("normal", nn.ReLU()),
        "Xavier, tanh": ("xavier", nn.Tanh()),
        "Xavier, ReLU": ("xavier", nn.ReLU()),
        "He, ReLU": ("he", nn.ReLU()),
    }
    curves: dict[str, list[float]] = {}
    for name, (kind, activation) in cases.items():
        stack = _stack(depth, width, activation)
        initialize(stack, kind)
        h, sizes = x, [x.square().mean().sqrt().item()]
        with torch.no_grad():
            for layer in stack:
                h = layer(h)
                if not isinstance(layer, nn.Linear):
                    sizes.append(h.square().mean().sqrt().item())
        curves[name] = sizes
    return Exhibit(
        title="Root mean square of activations by depth, 128 wide, no norms, no residuals",
        columns=("initialisation", "layer 1", "layer 10", "layer 50"),
        rows=[(name, c[1], c[10], c[50]) for name, c in curves.items()],
        series=[
            Series(name=name, x=list(range(depth + 1)), y=[max(v, 1e-20) for v in c])
            for name, c in curves.items()
        ],
        x="layer",
        y="RMS",
        log_y=True,
        reads="A layer multiplies the variance by fan_in times that of a weight, and ReLU then halves it. He's 2 / fan_in makes the product "
        "one; Xavier's 1 / fan_in keeps tanh alive and loses a factor of two per ReLU; a fixed small number dies at once.",
    )


def init_variances_measured() -> Exhibit:
    """Variance of the drawn weights against the formula, for a 512 x 128 layer."""
    rows = []
    kinds: dict[Kind, float] = {"normal": 0.02**2, "xavier": 2 / (512 + 128), "he": 2 / 128}
    for kind, wanted in kinds.items():
        layer = nn.Linear(128, 512)
        initialize(layer, kind)
        rows.append((kind, layer.weight.var().item(), wanted))
    return Exhibit(
        title="Variance of 65,536 weights of a layer from 128 to 512",
        columns=("kind", "measured", "formula"),
        rows=rows,
        reads="Xavier: 2 / (fan_in + fan_out), between what the forward and the backward pass want. He: 2 / fan_in.",
    )


VARIANTS = (
    ("decoder without residuals and norms", False, False),
    ("decoder without residuals", True, False),
    ("decoder without norms", False, True),
    ("decoder (pre-norm)", True, True),
)
"""Name, with norms, with residuals."""


def vanishing_gradients_by_depth() -> Exhibit:
    """Gradient norm at each of 24 layers: sigmoids, a decoder stripped of residuals and norms, and a whole one."""
    curves = {
        "sigmoid stack": _sigmoid_gradients(24, torch.randn(32, 48, generator=torch_generator(0, "input")))
    }
    curves |= {name: _decoder_gradients("normal", norms=n, residuals=r) for name, n, r in VARIANTS}
    return _by_depth(
        curves,
        "Gradient that reaches each of 24 layers, relative to the last one's; weights of standard deviation 0.02",
        "Going back through a layer multiplies the gradient by that layer's slopes: a sigmoid's is at most 1/4, and small weights make "
        "it smaller. A norm restores the size, and a residual path hands the gradient down undiminished.",
    )


def exploding_gradients_by_depth() -> Exhibit:
    """The same 24 layers with larger (Xavier) weights: without norms the gradient grows towards the first layer."""
    curves = {name: _decoder_gradients("xavier", norms=n, residuals=r) for name, n, r in VARIANTS}
    return _by_depth(
        curves,
        "Gradient that reaches each of 24 layers, relative to the last one's; Xavier weights",
        "With slopes above one the product grows instead. A residual alone makes it worse, since 1 + f' multiplies up; norms inside the "
        "branches keep each branch's slope in bounds whatever the weights.",
    )


def _by_depth(curves: dict[str, list[float]], title: str, reads: str) -> Exhibit:
    depth = len(next(iter(curves.values())))
    return Exhibit(
        title=title,
        columns=("network", "layer 23", "layer 16", "layer 8", "layer 1"),
        rows=[(name, c[22] / c[-1], c[15] / c[-1], c[7] / c[-1], c[0] / c[-1]) for name, c in curves.items()],
        series=[
            Series(name=name, x=list(range(1, depth + 1)), y=[max(v / c[-1], 1e-30) for v in c])
            for name, c in curves.items()
        ],
        x="layer",
        y="relative gradient norm",
        log_y=True,
        reads=reads,
    )


def _sigmoid_gradients(depth: int, x: Tensor) -> list[float]:
    stack = _stack(depth, x.shape[1], nn.Sigmoid())
    initialize(stack, "xavier")
    outputs = []
    h = x
    for layer in stack:
        h = layer(h)
        if isinstance(layer, nn.Linear):
            h.retain_grad()
            outputs.append(h)
    h.square().sum().backward()
    return [float(out.grad.norm()) for out in outputs if out.grad is not None]


def _decoder_gradients(kind: Kind, *, norms: bool, residuals: bool) -> list[float]:
    """Gradient norms at the output of every one of 24 blocks. A hook takes the block's input off its output: no residual."""
    model = Decoder(_tiny.shape(n_layers=24, feed_forward=Mlp(d_ff=96, activation="relu", gated=False)))
    initialize(model, kind)
    if not norms:
        replace(
            model, lambda name, module: isinstance(module, RMSNorm | LayerNorm), lambda module: nn.Identity()
        )
    if not residuals:
        for block in model.blocks:
            block.register_forward_hook(lambda module, inputs, output: output - inputs[0])
    names = [f"blocks.{i}" for i in range(24)]
    with record(model, names) as seen:
        loss = _tiny.loss(model, *_tiny.draw(0, 2)).mean()
        outputs = [seen[name][0] for name in names]
        for out in outputs:
            out.retain_grad()
        loss.backward()
    return [float(out.grad.norm()) if out.grad is not None else math.nan for out in outputs]
