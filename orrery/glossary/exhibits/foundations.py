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
from orrery.train.basic_losses import binary_cross_entropy, entropy, kl_divergence, kl_estimate, mse, nll
from orrery.train.init import initialize
from orrery.train.loss import cross_entropy
from orrery.train.optim.sgd import SGD


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
    for name, activation, bias in (("identity, no bias", None, False), ("identity, bias", None, True), ("relu, no bias", "relu", False)):
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
            rows.append((name, (mlp(x) - product).abs().max().item(), additive, mlp(torch.zeros(1, 8)).abs().max().item()))
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


def softmax_is_safe() -> Exhibit:
    """Softmax and log-sum-exp at logits up to 10,000: by the definition, and with the maximum subtracted."""
    rows = []
    for scale in (1.0, 100.0, 10_000.0, -10_000.0):
        z = torch.tensor([0.0, 1.0, 2.0]) + scale
        naive = z.exp() / z.exp().sum()
        nats = cross_entropy(z[None], lambda h: h, torch.tensor([2]), torch.ones(1)).sum.item()
        rows.append((f"{scale:g} + (0, 1, 2)", naive[2].item(), z.softmax(0)[2].item(), z.exp().sum().log().item(), z.logsumexp(0).item(), nats))
    p = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    jacobian = torch.autograd.functional.jacobian(lambda z: z.softmax(0), torch.tensor([0.0, 1.0, 2.0]))
    error = (jacobian - (p.diag() - torch.outer(p, p))).abs().max().item()  # type: ignore[operator]
    return Exhibit(
        title="p of the third of three logits, log-sum-exp, and the loss if it is the target",
        columns=("logits", "p by definition", "p", "lse by definition", "lse", "cross-entropy"),
        rows=rows,
        reads="Adding a constant to all logits changes nothing, so the largest may be made 0 before exponentiating. (Floats near 10,000 are "
        f"0.001 apart, hence the last digits of the loss.) The Jacobian is diag(p) - p p^T (largest difference {error:.1e}).",
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


def uniform_model_perplexity() -> Exhibit:
    """A decoder whose head is all zeros: loss ln V, perplexity V, log2 V bits a token; and one fresh from its initialisation."""
    rows = []
    for vocabulary in (16, 256, 4096):
        for kind in ("zero head", "fresh"):
            model = Decoder(_tiny.shape(vocab_size=vocabulary, tied=False))
            if kind == "zero head":
                nn.init.zeros_(model.lm_head.weight)  # type: ignore[union-attr]
            ids = torch.randint(vocabulary, (257,), generator=torch_generator(0, "uniform"))
            with torch.no_grad():
                hidden = model(ids[:-1], Packed([256]))
                nats = cross_entropy(hidden, model.head, ids[1:], torch.ones(256)).mean().item()
            rows.append((vocabulary, kind, nats, math.log(vocabulary), math.exp(nats), nats / math.log(2)))
    return Exhibit(
        title="Mean loss on 256 random tokens",
        columns=("V", "model", "nats a token", "ln V", "perplexity", "bits a token"),
        rows=rows,
        reads="A model that knows nothing spreads its probability evenly: perplexity V. A fresh model is close to that; a first loss far "
        "above ln V means that something is wrong before training began.",
    )


def entropies_by_hand() -> Exhibit:
    """Entropy of a few distributions in nats and bits, and the divergence between two coins both ways."""
    cases = {
        "fair coin": [0.5, 0.5], "9 to 1 coin": [0.9, 0.1], "certain": [1.0, 0.0], "one of 8": [0.125] * 8,
        "0.5 0.25 0.125 0.125": [0.5, 0.25, 0.125, 0.125],
    }  # fmt: skip
    rows = []
    for name, p in cases.items():
        nats = entropy(torch.tensor(p).log()).item() + 0.0
        rows.append((name, nats, nats / math.log(2), math.log2(len(p))))
    return Exhibit(
        title="Entropy",
        columns=("distribution", "nats", "bits", "largest possible, bits"),
        rows=rows,
        reads="The mean number of yes-no questions that a good scheme needs: one for a coin, three for eight equal cases, 1.75 where "
        "half the answers come at the first question.",
    )


def kl_estimators() -> Exhibit:
    """KL between two distributions of six tokens: exact both ways, and three estimates from samples."""
    p = torch.tensor([0.40, 0.25, 0.15, 0.10, 0.06, 0.04]).log()
    rows = []
    for name, q in (("equal", p), ("a little off", p / 1.2), ("far off", p.roll(2))):
        exact, reverse = kl_divergence(p, q).item(), kl_divergence(q, p).item()
        ids = torch.multinomial(p.exp(), 4000, replacement=True, generator=torch_generator(0, "kl"))
        logp, logq = p.log_softmax(-1)[ids], q.log_softmax(-1)[ids]
        parts = [kl_estimate(logp, logq, kind) for kind in ("k1", "k2", "k3")]  # type: ignore[arg-type]
        rows.append((name, exact, reverse, *(f"{k.mean().item():.4f} ± {k.std().item():.3f}" for k in parts)))
    return Exhibit(
        title="KL(p || q), KL(q || p), and the mean and spread of single-sample estimates over 4000 samples of p",
        columns=("q", "KL(p || q)", "KL(q || p)", "k1", "k2", "k3"),
        rows=rows,
        reads="Zero for equal distributions, never negative, and not symmetric. k1 is right on average and noisy; k3 is right too, never "
        "negative, and far less noisy while p and q are near; k2 is biased.",
    )


def losses_by_hand() -> Exhibit:
    """Squared error, binary cross-entropy and negative log-likelihood against their formulas, also at extreme logits."""
    z = torch.tensor([0.0, 2.0, -50.0, 1000.0])
    y = torch.tensor([1.0, 0.0, 0.0, 1.0])
    bce = [binary_cross_entropy(a, b).sum.item() for a, b in zip(z, y, strict=True)]
    naive = [-(b * torch.sigmoid(a).log() + (1 - b) * (1 - torch.sigmoid(a)).log()).item() for a, b in zip(z, y, strict=True)]
    rows: list[tuple[str, float, float]] = [
        (f"binary, logit {a:g}, label {b:g}", ours, by_formula)
        for a, b, ours, by_formula in zip(z.tolist(), y.tolist(), bce, naive, strict=True)
    ]
    error = mse(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 5.0]))
    rows.append(("squared error of (1, 3) from (0, 5), sum", error.sum.item(), 1.0 + 4.0))
    gaussian = -torch.distributions.Normal(3.0, 1.0).log_prob(torch.tensor(5.0)).item()
    rows.append(("half of it plus log sqrt(2 pi): Gaussian NLL of 5 around 3", 0.5 * 4 + 0.5 * math.log(2 * math.pi), gaussian))
    logp = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]).log()
    rows.append(("NLL of (0, 1): -log 0.7 - log 0.8", nll(logp, torch.tensor([0, 1])).sum.item(), -math.log(0.56)))
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
            ours = cross_entropy(z[None], lambda h: h, torch.tensor([0]), torch.ones(1), label_smoothing=e).sum.item()
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
    model = Decoder(_tiny.shape(vocab_size=32, d_model=16, n_heads=2, n_layers=1, feed_forward=Mlp(d_ff=24), tied=False)).double()
    initialize(model, "xavier")
    ids = torch.randint(32, (13,), generator=torch_generator(0, "differences"))

    def loss() -> Tensor:
        logits = model.head(model(ids[:-1], Packed([12])))
        return nll(logits.log_softmax(-1), ids[1:]).sum

    loss().backward()
    rows = []
    names = ("embed.weight", "blocks.0.attn.q_proj.weight", "blocks.0.attn_norm.weight", "blocks.0.mlp.down_proj.weight", "lm_head.weight")
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
        rows.append((seen[node], type(node).__name__.removesuffix("Backward0"), "" if leaf is None else f"weight {tuple(leaf.shape)}"))
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
        rows.append((rate, (out == 0).float().mean().item(), out.max().item(), out.mean().item(), layer.eval()(torch.ones(9)).mean().item()))
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
            ("gradient of row 3 over that of one use", (grad[3].norm() / (2 * model.embed.weight[3]).norm()).item()),
            ("numbers read by the look-up", 4 * 48),
            ("multiply-adds of the product", 4 * 256 * 48),
            ("back from one-hot to ids", str(one_hot.argmax(1).tolist())),
        ],
        reads="A look-up is a product with a matrix of zeros and single ones, done without the zeros. Only rows that were used get a "
        "gradient, and a row used twice gets the sum.",
    )


def maximum_likelihood_by_descent() -> Exhibit:
    """Gradient descent on the negative log-likelihood of 60 observations against counting them."""
    counts = torch.tensor([30, 15, 10, 5])
    data = torch.repeat_interleave(torch.arange(4), counts)
    logits = nn.Parameter(torch.zeros(1, 4))
    optimizer = SGD([logits], lr=1.0)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = cross_entropy(logits.expand(60, 4), lambda h: h, data, torch.ones(60)).mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    p = logits.detach().softmax(-1)[0]
    minimum = entropy((counts / 60).log()).item()
    return Exhibit(
        title="Four outcomes seen 30, 15, 10 and 5 times",
        columns=("outcome", "share of the counts", "after 200 steps"),
        rows=[(i, counts[i].item() / 60, p[i].item()) for i in range(4)],
        series=[Series(name="mean NLL", x=list(range(200)), y=losses)],
        x="step", y="nats",
        reads=f"The likeliest parameters are the relative frequencies, and the smallest loss is their entropy ({minimum:.4f} nats; reached "
        f"{losses[-1]:.4f}). Training a language model is the same with a network in place of the table.",
    )  # fmt: skip


def chain_of_conditionals() -> Exhibit:
    """All 64 texts of three tokens under a small decoder: each probability is a product of conditionals, and they sum to one."""
    model = Decoder(_tiny.shape(vocab_size=4, d_model=16, n_heads=2, feed_forward=Mlp(d_ff=32))).eval()
    initialize(model, "xavier", std=0.5)
    start, total, rows = 0, 0.0, []
    with torch.no_grad():
        for n in range(64):
            text = [n // 16, n // 4 % 4, n % 4]
            logp = model.head(model(torch.tensor([start, *text[:-1]]), Packed([3]))).log_softmax(-1)
            parts = [logp[i, token].item() for i, token in enumerate(text)]
            total += math.exp(sum(parts))
            if n % 13 == 0:
                whole = nll(logp, torch.tensor(text)).sum.item()
                rows.append((str(text), *(math.exp(part) for part in parts), math.exp(sum(parts)), whole))
    return Exhibit(
        title="p(a) p(b | a) p(c | a, b) for texts over four tokens",
        columns=("text", "p(a)", "p(b | a)", "p(c | a, b)", "product", "NLL, nats"),
        rows=rows,
        reads=f"The 64 products add up to {total:.6f}: a softmax at every step makes a distribution over whole texts. Its negative "
        "log-likelihood is the sum of the steps'.",
    )
