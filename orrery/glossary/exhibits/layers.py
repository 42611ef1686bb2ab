"""Exhibits of what a decoder is built from: blocks, norms and residuals, feed-forwards, widths, embeddings and head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import torch_generator
from orrery.model.block import Block
from orrery.model.decoder import Decoder
from orrery.model.mlp import Activation, Mlp
from orrery.model.norm import RMSNorm
from orrery.model.packed import Packed
from orrery.model.probe import record
from orrery.model.surgery import replace
from orrery.train.init import initialize
from orrery.train.loss import cross_entropy
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant

PLACEMENTS: dict[str, dict[str, Any]] = {
    "pre": {"placement": "pre"},
    "post": {"placement": "post"},
    "sandwich": {"placement": "sandwich"},
    "parallel": {"parallel": True},
}


def block_forms() -> Exhibit:
    """One layer in its four forms against the formula put together from its own parts."""
    ctx, rows = Packed([12]), []
    x = torch.randn(12, 48, generator=torch_generator(0, "x"))
    formulas: dict[str, tuple[str, Any]] = {
        "pre": ("h = x + A(n(x)), h + F(n(h))", lambda b: (h := x + b.attn(b.attn_norm(x), ctx)) + b.mlp(b.mlp_norm(h))),
        "post": ("h = n(x + A(x)), n(h + F(h))", lambda b: b.mlp_norm((h := b.attn_norm(x + b.attn(x, ctx))) + b.mlp(h))),
        "sandwich": (
            "h = x + n(A(n(x))), h + n(F(n(h)))",
            lambda b: (h := x + b.attn_out_norm(b.attn(b.attn_norm(x), ctx))) + b.mlp_out_norm(b.mlp(b.mlp_norm(h))),
        ),
        "parallel": ("x + A(n(x)) + F(n(x))", lambda b: x + b.attn(h := b.attn_norm(x), ctx) + b.mlp(h)),
    }  # fmt: skip
    for name, (formula, by_hand) in formulas.items():
        block = Decoder(_tiny.shape(n_layers=1, **PLACEMENTS[name])).blocks[0]
        assert isinstance(block, Block)
        initialize(block, "xavier")
        with torch.no_grad():
            out = block(x, ctx)
            norms = sum(isinstance(m, RMSNorm) for m in block.modules())
            rows.append(
                (
                    name,
                    formula,
                    norms,
                    out.square().mean().sqrt().item(),
                    (out - by_hand(block)).abs().max().item(),
                )
            )
            ctx.begin()
    return Exhibit(
        title="One block 48 wide; A attention, F feed-forward, n a norm with weights of its own",
        columns=("form", "output", "norms", "RMS of the output", "difference from the formula"),
        rows=rows,
        reads="Pre-norm leaves the stream itself alone, so it grows with depth; post-norm sets its size anew after every half. In a parallel block "
        "both halves can run at once, since neither waits for the other.",
    )


def norm_placement_by_depth() -> Exhibit:
    """Size of the residual stream, and of the gradient, through 24 fresh layers by where the norms stand."""
    series, rows = [], []
    for name, changes in (*PLACEMENTS.items(), ("no norms", {})):
        plain = Mlp(d_ff=96, activation="relu", gated=False)
        model = Decoder(_tiny.shape(n_layers=24, feed_forward=plain, **changes))
        initialize(model, "xavier")
        if name == "no norms":
            replace(model, lambda _, module: isinstance(module, RMSNorm), lambda _: nn.Identity())
        names = [f"blocks.{i}" for i in range(24)]
        with record(model, names) as seen:
            loss = _tiny.loss(model, *_tiny.draw(0, 2)).mean()
        outputs = [seen[n][0] for n in names]
        grads = [g.norm().item() for g in torch.autograd.grad(loss, outputs)]
        sizes = [out.detach().square().mean().sqrt().item() for out in outputs]
        turned = nn.functional.cosine_similarity(outputs[-2].detach(), outputs[-1].detach()).mean().item()
        rows.append((name, sizes[0], sizes[11], sizes[23], turned, grads[0] / grads[-1]))
        series.append(Series(name=name, x=list(range(1, 25)), y=sizes))
    return Exhibit(
        title="Xavier weights, 48 wide, ReLU",
        columns=("norms", "RMS after 1", "after 12", "after 24", "cosine of 23 and 24", "gradient at 1 / at 24"),
        rows=rows,
        series=series,
        x="layer", y="RMS of the stream", log_y=True,
        reads="Where nothing norms the stream itself, every layer adds its part, the stream grows like the root of the depth, and late layers "
        "turn it less and less. Post-norm keeps one size. Without any norms size and gradient grow by a factor a layer.",
    )  # fmt: skip


def depth_and_residuals() -> Exhibit:
    """Eight layers learn which of 32 tokens follows which: pre-norm, post-norm with and without warmup, no residuals."""
    steps, runs = 40, {}
    ids = torch.randperm(32, generator=torch_generator(0, "cycle")).repeat(40)
    for name in ("pre-norm", "post-norm", "post-norm, warmup of 15", "pre-norm without residuals"):
        placement = "post" if name.startswith("post") else "pre"
        shape = {
            "vocab_size": 32,
            "n_layers": 8,
            "d_model": 32,
            "n_heads": 2,
            "tied": False,
            "placement": placement,
        }
        model = Decoder(_tiny.shape(**shape, feed_forward=Mlp(d_ff=64, activation="relu", gated=False)))
        initialize(model, "xavier")
        for block in model.blocks if "without" in name else ():
            block.register_forward_hook(lambda module, inputs, output: output - inputs[0])
        schedule = Constant(warmup=15 if "warmup" in name else 0)
        runs[name] = _tiny.train(model, AdamW(lr=1e-2), steps=steps, rows=1, ids=ids, schedule=schedule)
    return Exhibit(
        title="AdamW at 0.01; knowing nothing costs ln 32 = 3.47 nats a token",
        columns=("network", "first loss", "after 20 steps", "mean of the last 5"),
        rows=[(name, run[0], run[20], sum(run[-5:]) / 5) for name, run in runs.items()],
        series=[Series(name=name, x=list(range(steps)), y=_tiny.smooth(run)) for name, run in runs.items()],
        x="step", y="nats a token",
        reads="The residual path carries each token to the head from the first step on; without it eight layers pass hardly anything. "
        "Post-norm puts a norm on that path in every half: at this rate it learns late and unsteadily, and warmup helps.",
    )  # fmt: skip


def gated_or_plain() -> Exhibit:
    """Feed-forwards of equal weight count, plain and gated, each trained for 70 steps on the same data."""
    kinds: dict[str, tuple[Activation, bool]] = {
        "ReLU": ("relu", False),
        "GELU": ("gelu", False),
        "SwiGLU": ("silu", True),
    }
    rows, series = [], []
    for name, (activation, gated) in kinds.items():
        cfg = Mlp(d_ff=128 if gated else 192, activation=activation, gated=gated)
        model = Decoder(_tiny.shape(n_layers=1, feed_forward=cfg))
        initialize(model, "xavier")
        losses = _tiny.train(model, AdamW(lr=5e-3), steps=70, rows=4)
        weights = sum(w.numel() for w in model.get_submodule("blocks.0.mlp").parameters())
        rows.append((name, cfg.d_ff, 3 if gated else 2, weights, sum(losses[-10:]) / 10))
        series.append(Series(name=name, x=list(range(70)), y=_tiny.smooth(losses, 10)))
    return Exhibit(
        title="One layer 48 wide",
        columns=("feed-forward", "inner width", "matrices", "weights", "mean loss of the last 10 steps"),
        rows=rows,
        series=series,
        x="step",
        y="nats a byte",
        reads="Two thirds of the inner width pay for the third matrix. In a minute model the order means little: the published gain is "
        "a percent or two of the loss, in models trained for long, and another seed can turn it round.",
    )


def shapes_of_a_decoder() -> Exhibit:
    """Every kind of tensor in a small decoder with its shape, and what is said when the numbers do not fit."""
    model = Decoder(_tiny.shape(n_kv_heads=2, head_dim=16, qk_norm=True, tied=False))
    rows: list[tuple[Any, ...]] = [
        (row.name, row.component, " x ".join(map(str, row.shape)), row.parameters)
        for row in model.describe()
        if "blocks.1" not in row.name
    ]
    for wrong in ({"d_model": 50}, {"n_kv_heads": 3}):
        try:
            _tiny.shape(**wrong)
        except OrreryError as error:
            rows.append((f"with {wrong}", "refused", str(error).partition(";")[0].partition(":")[0], ""))
    return Exhibit(
        title="d_model 48, 4 query heads and 2 kv heads of 16, inner width 128; the second layer is left out",
        columns=("tensor", "part", "shape (out x in)", "weights"),
        rows=rows,
        reads="One width, d_model, goes in and out of every part; inner widths are each part's own affair. 4 heads of 16 make 64, which need "
        "not be 48: the output projection leads back. Names are those that adapters, sharding and clipping aim at.",
    )


def tied_or_untied() -> Exhibit:
    """One decoder with a shared and with a separate output matrix: weights, and the gradient of the shared one."""
    tied, untied = Decoder(_tiny.shape()), Decoder(_tiny.shape(tied=False))
    state = tied.state_dict()
    untied.load_state_dict({**state, "lm_head.weight": state["embed.weight"]})
    for model in (tied, untied):
        _tiny.loss(model, *_tiny.draw(0, 4)).mean().backward()
    whole, as_input, as_output = (
        w.grad for w in (tied.embed.weight, untied.embed.weight, untied.get_parameter("lm_head.weight"))
    )
    assert whole is not None and as_input is not None and as_output is not None
    rows: list[tuple[str, Any]] = [
        ("weights, tied", tied.num_parameters()),
        ("weights, untied", untied.num_parameters()),
        ("V x d", 256 * 48),
        ("gradient of the input table, norm", as_input.norm().item()),
        ("gradient of the output matrix, norm", as_output.norm().item()),
        (
            "largest difference of their sum from the shared gradient",
            (as_input + as_output - whole).abs().max().item(),
        ),
        ("input rows with a gradient", int((as_input.abs().sum(1) > 0).sum())),
        ("output rows with a gradient", int((as_output.abs().sum(1) > 0).sum())),
    ]
    return Exhibit(
        title="256 tokens, 48 wide; equal weights in both models",
        columns=("quantity", "value"),
        rows=rows,
        reads="The gradient of a shared matrix is the sum of both uses. As an output every row is moved at every step, as an input only rows "
        "that occurred, so tied embeddings are trained mostly by their use in the head.",
    )


def embeddings_find_neighbours() -> Exhibit:
    """Cosines between embeddings of bytes before and after 120 steps: letters, capitals and digits among themselves."""
    model = Decoder(_tiny.shape(n_layers=1))
    groups = {
        "a-z": range(97, 123),
        "A-Z": range(65, 91),
        "0-9": range(48, 58),
        "never seen (128-159)": range(128, 160),
    }
    before = _cosines(model, groups)
    _tiny.train(model, AdamW(lr=5e-3), steps=120, rows=4)
    after = _cosines(model, groups)
    return Exhibit(
        title="Mean cosine of a group's vectors with each other, and with other printable bytes",
        columns=(
            "bytes",
            "with each other, at first",
            "with others",
            "trained: with each other",
            "with others",
        ),
        rows=[(name, *before[name], *after[name]) for name in groups],
        reads="No one told the model what a letter is: bytes that stand in the same places are pushed the same way. Bytes that never occur are "
        "all pushed away from what does, and end up alike, which says nothing about their meaning.",
    )


def _cosines(model: Decoder, groups: dict[str, range]) -> dict[str, tuple[float, float]]:
    """Mean cosine within each group and to everything else that is printable."""
    with torch.no_grad():
        e = nn.functional.normalize(model.embed.weight, dim=1)
    found = {}
    for name, group in groups.items():
        inside = e[list(group)] @ e[list(group)].T
        n = len(group)
        others = [i for i in range(32, 127) if i not in group]
        found[name] = (
            (inside.sum() - n).item() / (n * (n - 1)),
            (e[list(group)] @ e[others].T).mean().item(),
        )
    return found


def head_in_chunks() -> Exhibit:
    """The loss of 1024 tokens over a vocabulary of 8192 in chunks: equal value, and the largest tensor of logits it makes."""
    hidden = torch.randn(1024, 8, generator=torch_generator(0, "hidden"))
    head = torch.randn(8192, 8, generator=torch_generator(0, "head"))
    targets = torch.randint(8192, (1024,), generator=torch_generator(0, "targets"))
    rows = []
    for chunk in (1024, 256, 64, 16):
        h, logits = hidden.clone().requires_grad_(), _Widest(8192)
        with logits:
            loss = cross_entropy(h, head, targets, torch.ones(1024), chunk=chunk)
            loss.sum.backward()
        assert h.grad is not None
        rows.append(
            (chunk, loss.mean().item(), h.grad.norm().item(), logits.bytes / 2**20, chunk * 8192 * 4 / 2**20)
        )
    return Exhibit(
        title="1024 tokens, a vocabulary of 8192, fp32",
        columns=("tokens a chunk", "loss", "gradient norm", "largest tensor, MiB", "chunk x V x 4"),
        rows=rows,
        reads="Logits are the largest tensor of a model with a large vocabulary, and no one needs all of them at once. A chunk's gradient is "
        "made while its logits are there, so memory falls with the chunk and nothing is computed twice.",
    )


class _Widest(TorchDispatchMode):
    """Watches for the largest tensor whose rows are `width` long."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.bytes = width, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple) else (out,):
            if isinstance(tensor, Tensor) and tensor.ndim == 2 and tensor.shape[1] == self.width:
                self.bytes = max(self.bytes, tensor.nbytes)
        return out
