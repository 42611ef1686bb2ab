"""Exhibits of the parts: functions, distributions, losses and gradients, on numbers one can check by hand."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import ACTIVATIONS, MLP, Mlp
from orrery.model.packed import Packed
from orrery.train.basic_losses import binary_cross_entropy, mse, nll
from orrery.train.init import initialize
from orrery.train.loss import cross_entropy


def activations_drawn() -> Exhibit:
    """Every activation function of the feed-forward layers, with sigmoid and tanh: values and slopes."""
    functions = {**ACTIVATIONS, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    x = torch.linspace(-4, 4, 65)
    rows = []
    for name, function in functions.items():
        at = torch.tensor([-2.0, 0.0, 2.0], requires_grad=True)
        y = function(at)
        y.sum().backward()
        assert at.grad is not None
        rows.append((name, *y.tolist(), *at.grad.tolist()))
    drawn = ("relu", "gelu", "silu", "sigmoid", "tanh")
    return Exhibit(
        title="Activation functions: value and slope at -2, 0 and 2",
        columns=("function", "f(-2)", "f(0)", "f(2)", "f'(-2)", "f'(0)", "f'(2)"),
        rows=rows,
        series=[Series(name=name, x=x.tolist(), y=functions[name](x).tolist()) for name in drawn],
        x="x", y="f(x)",
        reads="Sigmoid and tanh go flat on both sides, where no gradient passes. ReLU is flat on one side only; GELU and SiLU are smooth "
        "versions of it that dip a little below zero.",
    )  # fmt: skip


def without_activation_linear() -> Exhibit:
    """A feed-forward network with its activation taken out, against one matrix; and what a bias does to linearity."""
    x, y = (torch.randn(16, 8, generator=torch_generator(0, name)) for name in "xy")
    rows = []
    for name, activation, bias in (
        ("identity, no bias", None, False),
        ("identity, bias", None, True),
        ("relu, no bias", "relu", False),
    ):
        mlp = MLP(8, Mlp(d_ff=32, activation=activation or "relu", gated=False, bias=bias))  # type: ignore[arg-type]
        nn.init.normal_(mlp.up_proj.weight, generator=torch_generator(1, "up"))
        nn.init.normal_(mlp.down_proj.weight, generator=torch_generator(1, "down"))
        if bias:
            nn.init.ones_(mlp.up_proj.bias)
        if activation is None:
            mlp.activation = lambda h: h
        with torch.no_grad():
            product = x @ (mlp.down_proj.weight @ mlp.up_proj.weight).T
            additive = (mlp(x + y) - mlp(x) - mlp(y)).abs().max().item()
            rows.append(
                (
                    name,
                    (mlp(x) - product).abs().max().item(),
                    additive,
                    mlp(torch.zeros(1, 8)).abs().max().item(),
                )
            )
    return Exhibit(
        title="Two layers 8 -> 32 -> 8: distance from the product of the two matrices",
        columns=("network", "|f(x) - W2 W1 x|", "|f(x+y) - f(x) - f(y)|", "|f(0)|"),
        rows=rows,
        reads="Without an activation two layers are one matrix, whatever lies between. A bias makes the map affine: f(0) is no longer 0 and "
        "additivity fails. Only a nonlinear function between them makes depth mean something.",
    )


def neuron_by_hand() -> Exhibit:
    """One hidden unit of the shipped MLP: relu(w.x + b), worked out for four inputs."""
    mlp = MLP(2, Mlp(d_ff=1, activation="relu", gated=False, bias=True))
    with torch.no_grad():
        mlp.up_proj.weight.copy_(torch.tensor([[2.0, -1.0]]))
        mlp.up_proj.bias.fill_(0.5)
        mlp.down_proj.weight.copy_(torch.tensor([[1.0], [0.0]]))
        mlp.down_proj.bias.zero_()
        rows = []
        for a, b in ((0.0, 0.0), (1.0, 1.0), (1.0, 3.0), (-1.0, 0.0)):
            rows.append((f"({a:g}, {b:g})", 2 * a - b + 0.5, mlp(torch.tensor([[a, b]]))[0, 0].item()))
    return Exhibit(
        title="A unit with weights (2, -1) and bias 0.5",
        columns=("x", "w.x + b by hand", "output of the unit"),
        rows=rows,
        reads="The unit fires on one side of the line 2 a - b + 0.5 = 0 and is silent on the other. At the zero input it gives its bias.",
    )


def cross_entropy_by_hand() -> Exhibit:
    """The loss and its gradient on three tokens, one of them without weight."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]], requires_grad=True)
    targets, weights = torch.tensor([0, 2, 1]), torch.tensor([1.0, 1.0, 0.0])
    loss = cross_entropy(logits, lambda h: h, targets, weights)
    loss.sum.backward()
    assert logits.grad is not None
    rows = []
    for i in range(3):
        p = logits[i].detach().softmax(0)
        by_hand = -math.log(p[targets[i]]) * weights[i].item()
        minus = (p - F.one_hot(targets[i], 3)) * weights[i]
        rows.append((i, int(targets[i]), by_hand, _vector(logits.grad[i]), _vector(minus)))
    return Exhibit(
        title=f"Sum {loss.sum.item():.4f} nats over weight {loss.weight.item():g}; mean {loss.mean().item():.4f}",
        columns=("token", "target", "-log p(target)", "gradient of the sum", "p - onehot(target)"),
        rows=rows,
        reads="The gradient is what the model said minus what was true. A token of weight 0 adds nothing to the sum, the weight or the "
        "gradient, and its logits are not even computed.",
    )


def _vector(values: Tensor) -> str:
    return " ".join(f"{v + 0.0:+.3f}" for v in values.tolist())


def losses_by_hand() -> Exhibit:
    """Squared error, binary cross-entropy and negative log-likelihood against their formulas, also at extreme logits."""
    z = torch.tensor([0.0, 2.0, -50.0, 1000.0])
    y = torch.tensor([1.0, 0.0, 0.0, 1.0])
    bce = [binary_cross_entropy(a, b).sum.item() for a, b in zip(z, y, strict=True)]
    naive = [
        -(b * torch.sigmoid(a).log() + (1 - b) * (1 - torch.sigmoid(a)).log()).item()
        for a, b in zip(z, y, strict=True)
    ]
    rows: list[tuple[str, float, float]] = [
        (f"binary, logit {a:g}, label {b:g}", ours, by_formula)
        for a, b, ours, by_formula in zip(z.tolist(), y.tolist(), bce, naive, strict=True)
    ]
    error = mse(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0]))
    rows.append(("squared error of (1, 3) from (0, 5), sum", error.sum.item(), 1.0 + 4.0))
    gaussian = -torch.distributions.Normal(3.0, 1.0).log_prob(torch.tensor(5.0)).item()
    rows.append(
        (
            "half of it plus log sqrt(2 pi): Gaussian NLL of 5 around 3",
            0.5 * 4 + 0.5 * math.log(2 * math.pi),
            gaussian,
        )
    )
    logp = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]).log()
    rows.append(
        ("NLL of (0, 1): -log 0.7 - log 0.8", nll(logp, torch.tensor([0, 1])).sum.item(), -math.log(0.56))
    )
    return Exhibit(
        title="Losses as shipped and by their definitions",
        columns=("case", "shipped", "by definition"),
        rows=rows,
        reads="From logits the binary loss is softplus(z) - y z, which never takes the logarithm of zero; the definition gives nan at a logit of "
        "1000. Squared error is the negative log-likelihood of a Gaussian, up to constants.",
    )


def label_smoothing_by_hand() -> Exhibit:
    """Cross-entropy with label smoothing 0 to 0.2 on a confident and on an unsure prediction."""
    rows = []
    for e in (0.0, 0.1, 0.2):
        row: list[float] = [e]
        for z in (torch.tensor([8.0, 0.0, 0.0, 0.0]), torch.tensor([2.0, 0.0, 0.0, 0.0])):
            ours = cross_entropy(
                z[None], lambda h: h, torch.tensor([0]), torch.ones(1), label_smoothing=e
            ).sum.item()
            soft = torch.full((4,), e / 4)
            soft[0] += 1 - e
            row += [ours, -(soft * z.log_softmax(0)).sum().item()]
        rows.append(tuple(row))
    return Exhibit(
        title="Four classes, the target is the first; logits (8, 0, 0, 0) and (2, 0, 0, 0)",
        columns=("smoothing", "sure: shipped", "by formula", "unsure: shipped", "by formula"),
        rows=rows,
        reads="The target becomes 1 - e on the truth plus e spread over all classes. Then being ever surer stops paying: at 0.1 the sure "
        "prediction loses to the unsure one.",
    )


def gradients_by_differences() -> Exhibit:
    """Autograd's gradient of the loss against finite differences, for weights all over a small decoder."""
    model = Decoder(
        _tiny.shape(vocab_size=32, d_model=16, n_heads=2, n_layers=1, feed_forward=Mlp(d_ff=24), tied=False)
    ).double()
    initialize(model, "xavier")
    ids = torch.randint(32, (13,), generator=torch_generator(0, "differences"))

    def loss() -> Tensor:
        logits = model.head(model(ids[:-1], Packed([12])))
        return nll(logits.log_softmax(-1), ids[1:]).sum

    loss().backward()
    rows = []
    names = (
        "embed.weight",
        "blocks.0.attn.q_proj.weight",
        "blocks.0.attn_norm.weight",
        "blocks.0.mlp.down_proj.weight",
        "lm_head.weight",
    )
    for name in names:
        weight, step = model.get_parameter(name), 1e-5
        assert weight.grad is not None
        place = int(weight.grad.abs().argmax())
        with torch.no_grad():
            flat = weight.view(-1)
            flat[place] += step
            above = loss().item()
            flat[place] -= 2 * step
            below = loss().item()
            flat[place] += step
        slope, grad = (above - below) / (2 * step), weight.grad.view(-1)[place].item()
        rows.append((name, grad, slope, abs(grad - slope) / abs(grad)))
    return Exhibit(
        title="d loss / d w at the largest gradient of five tensors, float64",
        columns=("weight", "autograd", "(f(w + h) - f(w - h)) / 2h", "relative difference"),
        rows=rows,
        reads="Differences need two forward passes a weight and lose digits; autograd gets all of them exactly in one backward pass.",
    )


def backward_cost() -> Exhibit:
    """Multiply-adds of a forward and a backward pass through a decoder, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    rows = []
    for layers in (1, 2, 4):
        model = Decoder(_tiny.shape(n_layers=layers))
        tokens, targets = _tiny.draw(0, 4)
        with FlopCounterMode(display=False) as forward:
            logits = model.head(model(tokens, Packed([64] * 4)))
            loss = F.cross_entropy(logits, targets)
        with FlopCounterMode(display=False) as backward:
            loss.backward()
        a, b = forward.get_total_flops(), backward.get_total_flops()
        rows.append((layers, a, b, b / a))
    return Exhibit(
        title="Matrix-product FLOPs for 256 tokens",
        columns=("layers", "forward", "backward", "ratio"),
        rows=rows,
        reads="Backward takes two products where forward took one: one for the gradient of the input, one for that of the weights. So all "
        "gradients together cost twice the forward pass, however many weights there are.",
    )


def graph_of_a_loss() -> Exhibit:
    """The computational graph behind relu(W x).sum(): operations from the loss back to the leaves."""
    mlp = MLP(3, Mlp(d_ff=4, activation="relu", gated=False))
    loss = mlp(torch.ones(2, 3)).sum()
    rows: list[tuple[int, str, str]] = []
    seen: dict[object, int] = {}
    queue = [loss.grad_fn]
    while queue:
        node = queue.pop(0)
        if node is None or node in seen:
            continue
        seen[node] = len(seen)
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        queue += parents
        leaf = getattr(node, "variable", None)
        rows.append(
            (
                seen[node],
                type(node).__name__.removesuffix("Backward0"),
                "" if leaf is None else f"weight {tuple(leaf.shape)}",
            )
        )
    return Exhibit(
        title="Nodes that autograd recorded for one call of the shipped MLP",
        columns=("order", "operation", "leaf"),
        rows=rows,
        reads="Forward recorded what was done; backward walks the record in reverse, each node turning the gradient of its output into "
        "those of its inputs, until it reaches the weights.",
    )


def dropout_keeps_the_mean() -> Exhibit:
    """The decoder's dropout on a vector of ones: share dropped, mean, and what eval mode does."""
    rows = []
    for rate in (0.1, 0.5):
        layer = Decoder(_tiny.shape(dropout=rate)).dropout
        torch.manual_seed(0)
        out = layer(torch.ones(100_000))
        rows.append(
            (
                rate,
                (out == 0).float().mean().item(),
                out.max().item(),
                out.mean().item(),
                layer.eval()(torch.ones(9)).mean().item(),
            )
        )
    return Exhibit(
        title="100,000 ones through dropout",
        columns=("rate", "share dropped", "value of the others", "mean", "mean in eval mode"),
        rows=rows,
        reads="What survives is scaled by 1 / (1 - p), so the mean is right on average and nothing needs to change in eval mode, where "
        "dropout does nothing.",
    )


def embedding_is_a_one_hot_product() -> Exhibit:
    """The decoder's embedding against a product with one-hot vectors: values, gradients, and what each costs."""
    model = Decoder(_tiny.shape())
    ids = torch.tensor([3, 77, 3, 200])
    one_hot = F.one_hot(ids, 256).float()
    looked_up, product = model.embed(ids), one_hot @ model.embed.weight
    looked_up.square().sum().backward()
    grad = model.embed.weight.grad
    assert grad is not None
    touched = grad.abs().sum(1).nonzero().squeeze(1).tolist()
    return Exhibit(
        title="Four ids, two of them equal, in a table of 256 rows of 48",
        columns=("quantity", "value"),
        rows=[
            ("largest difference of the vectors", (looked_up - product).abs().max().item()),
            ("rows with a gradient", str(touched)),
            (
                "gradient of row 3 over that of one use",
                (grad[3].norm() / (2 * model.embed.weight[3]).norm()).item(),
            ),
            ("numbers read by the look-up", 4 * 48),
            ("multiply-adds of the product", 4 * 256 * 48),
            ("back from one-hot to ids", str(one_hot.argmax(1).tolist())),
        ],
        reads="A look-up is a product with a matrix of zeros and single ones, done without the zeros. Only rows that were used get a "
        "gradient, and a row used twice gets the sum.",
    )


def chain_rule_by_hand() -> Exhibit:
    """silu(w x + b) followed by a square: the derivative as a product of three local ones, and by autograd."""
    mlp = MLP(1, Mlp(d_ff=1, activation="silu", gated=False, bias=True))
    with torch.no_grad():
        for p, value in zip(mlp.parameters(), (1.5, -0.5, 1.0, 0.0), strict=True):
            p.fill_(value)
    rows = []
    for at in (-1.0, 0.0, 0.5, 2.0):
        x = torch.tensor([[at]], requires_grad=True)
        mlp(x).square().sum().backward()
        assert x.grad is not None
        z = 1.5 * at - 0.5
        s = 1 / (1 + math.exp(-z))
        local = (2 * z * s, s * (1 + z * (1 - s)), 1.5)  # of y^2, of silu, of w x + b
        rows.append((at, *local, math.prod(local), x.grad.item()))
    return Exhibit(
        title="f(x) = silu(1.5 x - 0.5)^2",
        columns=("x", "of the square", "of silu", "of w x + b", "product", "autograd"),
        rows=rows,
        reads="Each operation knows only its own derivative at the value it saw; their product is the derivative of the whole.",
    )
