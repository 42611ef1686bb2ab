"""Exhibits of networks that are not transformers, and of a classifier on one: images, graphs, a head over classes."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.classifier import Classifier
from orrery.model.decoder import Decoder
from orrery.model.graph import GraphNet, GraphNetConfig, edges_of
from orrery.model.he import draw_he
from orrery.model.packed import Packed
from orrery.model.vision.alexnet import ALEXNET_2012, SMALL, AlexNet, AlexNetConfig
from orrery.model.vision.batch_norm import BatchNorm
from orrery.model.vision.convolution import Conv2d, MaxPool, average_pool, conv2d, max_pool
from orrery.model.vision.resnet import RESNETS, ResNet, ResNetConfig
from orrery.train.basic_losses import nll
from orrery.train.optim.adam import AdamW
from orrery.train.optim.config import AdamW as AdamWConfig


def _strokes(n: int, *, side: int = 16, left: bool = False, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy grey images of a lying bar (0), a standing bar (1) or a cross (2); `left`: in the left half alone."""
    generator = torch_generator(seed, "strokes", side)
    labels = torch.randint(3, (n,), generator=generator)
    images = 0.3 * torch.randn(n, 1, side, side, generator=generator)
    places = torch.randint(3, side - 3, (n, 2), generator=generator)
    if left:
        places[:, 1] = places[:, 1] % (side // 2 - 3) + 3
    for image, label, (y, x) in zip(images, labels.tolist(), places.tolist(), strict=True):
        if label != 1:
            image[0, y, x - 3 : x + 4] += 1
        if label != 0:
            image[0, y - 3 : y + 4, x] += 1
    return images, labels


def _fit(
    model: nn.Module, images: Tensor, labels: Tensor, *, steps: int, lr: float, rows: int = 32
) -> list[float]:
    """Losses of `steps` steps on batches of `rows` images."""
    optimizer = AdamW(model.parameters(), lr=lr)
    losses = []
    model.train()
    for step in range(steps):
        some = torch.randint(len(images), (rows,), generator=torch_generator(0, "batch", step))
        loss = nll(model(images[some]).log_softmax(-1), labels[some]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model.eval()(images).argmax(1) == labels).float().mean().item()


def _weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolution_against_reference() -> Exhibit:
    """Our convolution and pools against torch's: largest difference of the answers and of the gradients, in fp64."""
    generator = torch_generator(0, "convolution")
    image = torch.randn(4, 3, 11, 13, generator=generator, dtype=torch.float64)
    weight = torch.randn(8, 3, 3, 3, generator=generator, dtype=torch.float64)
    cases = {
        "convolution 3x3": (lambda x, w: conv2d(x, w), lambda x, w: F.conv2d(x, w)),
        "convolution 3x3, stride 2, padding 1": (
            lambda x, w: conv2d(x, w, stride=2, padding=1), lambda x, w: F.conv2d(x, w, stride=2, padding=1),
        ),
        "max pool 3x3, stride 2": (lambda x, w: max_pool(x, 3, stride=2), lambda x, w: F.max_pool2d(x, 3, 2)),
        "average pool 2x2": (lambda x, w: average_pool(x, 2), lambda x, w: F.avg_pool2d(x, 2)),
    }  # fmt: skip
    rows = []
    for name, (ours, theirs) in cases.items():
        answers, gradients = [], []
        for function in (ours, theirs):
            x, w = image.clone().requires_grad_(), weight.clone().requires_grad_()
            answers.append(function(x, w))
            answers[-1].square().sum().backward()
            gradients.append((x.grad, w.grad))
        (dx, dw), (want_dx, want_dw) = gradients
        rows.append((name, "x".join(str(n) for n in answers[0].shape), _gap(*answers), _gap(dx, want_dx), _gap(dw, want_dw)))  # fmt: skip
    return Exhibit(
        title="Four images of 3 channels and 11 x 13 pixels",
        columns=("layer", "answer's shape", "answer", "gradient of the image", "gradient of the kernel"),
        rows=rows,
        reads="Windows laid out as columns and one matrix product are the same convolution, to rounding; a pool has no kernel, so nothing to compare.",
    )


def _gap(ours: Tensor | None, theirs: Tensor | None) -> float:
    return 0.0 if ours is None or theirs is None else (ours - theirs).abs().max().item()


def strokes_told_apart() -> Exhibit:
    """A bar lying, a bar standing or a cross, trained in the left half of the image and asked on the right as well."""
    train = _strokes(384, left=True)
    left, anywhere = _strokes(300, left=True, seed=1), _strokes(300, seed=2)
    small = nn.Sequential(
        Conv2d(1, 12, 5, padding=2), nn.ReLU(), MaxPool(2), Conv2d(12, 12, 3, padding=1), nn.ReLU(), MaxPool(8), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    dense = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 3))
    rows = []
    for name, model in (("convolutions and pools", small), ("fully connected", dense)):
        draw_he(model, 0)
        _fit(model, *train, steps=60, lr=1e-2)
        rows.append(
            (name, _weights(model), *(_accuracy(model, *part) for part in (train, left, anywhere)))
        )  # fmt: skip
    sample = train[0][torch.stack([(train[1] == label).nonzero()[0, 0] for label in range(3)])]
    names = ("a bar lying", "a bar standing", "a cross")
    return Exhibit(
        title="384 noisy images of 16 x 16 pixels, three classes",
        columns=("network", "weights", "training images", "new, left half", "new, anywhere"),
        rows=rows,
        grids=[
            Grid(title=name, values=image[0].clamp(0, 1).tolist())
            for name, image in zip(names, sample, strict=True)
        ],
        reads="The kernels that found a stroke on the left find it on the right too: the same weights look everywhere. The dense network has other weights "
        "for every pixel, so what it learned on the left is worth little elsewhere, and it has more of them to learn.",
    )


def weights_by_image_size() -> Exhibit:
    """Weights of one layer from 3 channels to 16 at the same places: convolution 3x3 and fully connected."""
    layer = Conv2d(3, 16, 3, padding=1)
    sides, rows = (4, 8, 16, 32, 64, 128, 224), []
    for side in sides:
        with torch.device("meta"):
            dense = _weights(nn.Linear(3 * side**2, 16 * side**2))
        with torch.no_grad():
            shape = layer(torch.zeros(1, 3, side, side)).shape
        rows.append((side, "x".join(str(n) for n in shape[1:]), _weights(layer), dense, side**2))
    return Exhibit(
        title="The same kernel at every place, or other weights for every pair of places",
        columns=("image side", "answer", "convolution", "fully connected", "uses of each kernel weight"),
        rows=rows,
        series=[
            Series(name="convolution", x=sides, y=[row[2] for row in rows]),
            Series(name="fully connected", x=sides, y=[row[3] for row in rows]),
        ],
        x="side of the image", y="weights", log_x=True, log_y=True,
        reads="448 weights serve every size, each used once a place. What is shared is weights, not arithmetic: work grows with the image all the same.",
    )  # fmt: skip


def published_image_networks() -> Exhibit:
    """AlexNet and the ResNets built by our code, their weights against the published counts."""
    nets = [
        ("AlexNet, one tower (2014)", 8, AlexNet.count(AlexNetConfig()), 61_100_840),
        ("AlexNet, two towers (2012)", 8, AlexNet.count(ALEXNET_2012), 60_965_224),
    ]
    published = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
    nets += [
        (f"ResNet-{n}", cfg.depth, ResNet.count(cfg), published[n]) for n, cfg in sorted(RESNETS.items())
    ]
    return Exhibit(
        title="Networks for ImageNet: 3 channels in, 1000 classes out",
        columns=("network", "layers with weights", "weights", "published", "equal"),
        rows=[(*net, net[2] == net[3]) for net in nets],
        reads="152 layers have fewer weights than AlexNet's 8: 58.6 million of AlexNet's are in its three fully connected layers, where a ResNet has an "
        "average over all places and one small matrix.",
    )


def alexnet_on_small_images() -> Exhibit:
    """AlexNet's eight layers, narrow, on images of 16 x 16 pixels with three classes."""
    model = AlexNet(dataclasses.replace(SMALL, classes=3))
    losses = _fit(model, *_strokes(512), steps=90, lr=4e-3)
    new = _strokes(300, seed=1)
    x, rows = new[0][:1], []
    with torch.no_grad():
        for layer in (*model.features, *model.classifier):
            x = layer(x)
            if not isinstance(layer, nn.ReLU | nn.Dropout | nn.Flatten):
                rows.append((type(layer).__name__, "x".join(str(n) for n in x.shape[1:]), _weights(layer)))
    smooth = _tiny.smooth(losses, 5)
    return Exhibit(
        title=f"{_weights(model):,} weights, accuracy on new images {_accuracy(model, *new):.3f} (guessing: 0.333)",
        columns=("layer", "gives", "weights"),
        rows=rows,
        series=[Series(name="training loss", x=list(range(len(smooth))), y=smooth)],
        x="step",
        y="nats",
        reads="Pools shrink the image while channels grow, then fully connected layers decide. Five convolutions and three such layers, as in the paper, with "
        "a first window of 3 x 3 instead of 11 x 11 and an eighth to a quarter of the channels.",
    )


def depth_with_and_without_shortcuts() -> Exhibit:
    """Plain and residual networks of 6, 18 and 34 layers: training loss after 25 steps."""
    images, labels = _strokes(256, side=12)
    rows, series = [], []
    for blocks in (2, 8, 16):
        last = []
        for residual in (False, True):
            cfg = ResNetConfig(
                blocks=(blocks // 2, blocks // 2), width=4, stem="small", channels=1, classes=3, residual=residual
            )  # fmt: skip
            losses = _tiny.smooth(_fit(ResNet(cfg), images, labels, steps=25, lr=1e-2, rows=16), 5)
            last.append(losses[-1])
            if blocks == 16:
                name = "residual, 34 layers" if residual else "plain, 34 layers"
                series.append(Series(name=name, x=list(range(len(losses))), y=losses))
        rows.append((cfg.depth, *last))
    return Exhibit(
        title="Bars and crosses of 12 x 12 pixels, batch norm after every convolution (guessing: 1.099 nats)",
        columns=("layers", "plain", "residual"),
        rows=rows,
        series=series,
        x="step",
        y="training loss, nats",
        reads="Shallow, both learn. Deep, the plain network hardly learns its training images, so this is not overfitting; with the additions, depth costs "
        "little, since a block can leave what it gets as it is.",
    )


def batch_and_running_statistics() -> Exhibit:
    """Batch norm in training and in eval: how the running statistics approach the data's, and who changes an answer."""
    norm = BatchNorm(1)
    generator = torch_generator(0, "batch-norm")
    rows = []
    for step in range(41):
        if step in (0, 1, 5, 10, 20, 40):
            rows.append((step, norm.running_mean.item(), norm.running_var.item(), *_answers(norm)))
        norm.train()(3 + 2 * torch.randn(64, 1, generator=generator))
    x = torch.randn(6, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    fresh = BatchNorm(1).double()
    exact = torch.autograd.gradcheck(fresh, (x,))
    return Exhibit(
        title=f"Batches of 64 numbers of mean 3 and variance 4 (gradient through the statistics equal to differences: {exact})",
        columns=("batches seen", "running mean", "running variance", "training: 5 beside 1", "training: 5 beside 9", "eval: 5"),
        rows=rows,
        reads="In training the answer to 5 depends on what stands beside it, not on anything before. In eval it depends on the running statistics alone, "
        "which move a tenth of the way each batch: after few batches they still remember where they started.",
    )  # fmt: skip


def _answers(norm: BatchNorm) -> tuple[float, float, float]:
    """What 5 becomes in training beside 1, beside 9, and in eval; `norm` stays as it is."""
    with torch.no_grad():
        beside = [
            copy.deepcopy(norm).train()(torch.tensor([[5.0], [other]]))[0].item() for other in (1.0, 9.0)
        ]
        return beside[0], beside[1], copy.deepcopy(norm).eval()(torch.tensor([[5.0]])).item()


def hops_of_message_passing() -> Exhibit:
    """Which nodes of a path change the state of its first node after K layers."""
    nodes = 8
    edges = edges_of(itertools.pairwise(range(nodes)))
    x = torch.randn(nodes, 3, generator=torch_generator(0, "path"), dtype=torch.float64)
    values, rows = [], []
    for layers in range(6):
        model = GraphNet(GraphNetConfig(features=3, classes=2, layers=layers, activation="gelu")).double()
        change = x.clone().requires_grad_()
        model.states(change, edges)[0].square().sum().backward()
        assert change.grad is not None
        heard = (change.grad.abs().amax(1) > 0).tolist()
        values.append([float(h) for h in heard])
        order = torch.randperm(nodes, generator=torch_generator(0, "order", layers))
        turned = model(x[order], order.argsort()[edges])
        rows.append((layers, max(i for i, h in enumerate(heard) if h), (turned - model(x, edges)[order]).abs().max().item()))  # fmt: skip
    return Exhibit(
        title="A path of 8 nodes, 0-1-2-...-7",
        columns=("layers", "farthest node that node 0 hears", "renumbered nodes: largest difference"),
        rows=rows,
        grids=[
            Grid(
                title="gradient of node 0's state (row: layers, column: node) is not zero",
                values=values,
                rows=[str(k) for k in range(6)],
                columns=[str(i) for i in range(nodes)],
            )
        ],
        reads="K layers reach exactly K hops. Renumber the nodes and the answers are renumbered the same way, to rounding.",
    )


def nodes_classified_by_neighbours() -> Exhibit:
    """Two groups of nodes with noisy features, 20 of 120 labelled: accuracy on the others by layers of message passing."""
    generator = torch_generator(0, "groups")
    labels = torch.arange(120) % 2
    likely = torch.where(labels[:, None] == labels, 0.15, 0.02)
    pairs = (torch.rand(120, 120, generator=generator) < likely).nonzero().tolist()
    edges = edges_of((u, v) for u, v in pairs if u < v)
    x = torch.randn(120, 4, generator=generator) + 0.4 * (2.0 * labels[:, None] - 1)
    known = torch.arange(120) < 20
    rows = []
    for layers in (0, 1, 2, 3, 4):
        model = GraphNet(GraphNetConfig(features=4, classes=2, width=16, layers=layers))
        optimizer = AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            nll(model(x, edges)[known].log_softmax(-1), labels[known]).mean().backward()
            optimizer.step()
        right = model(x, edges).argmax(1) == labels
        rows.append((layers, *(right[part].float().mean().item() for part in (known, ~known))))
    return Exhibit(
        title=f"Edges within a group 15 %, between groups 2 %; {edges.shape[1] / 120:.1f} neighbours a node",
        columns=("layers", "labelled nodes", "other nodes"),
        rows=rows,
        reads="Without messages the features of a node say little about it. Its neighbours are mostly of its own group, and the mean of what they send is less noisy than "
        "one node; nobody told the network that groups exist.",
    )


def head_or_all() -> Exhibit:
    """Are 32 bytes as written, backwards or shuffled: a head on a fresh or a trained decoder, alone or with all of it."""
    text = torch.frombuffer(bytearray(_library.texts()[1].encode()), dtype=torch.uint8).long()
    trained = Decoder(_tiny.shape())
    _tiny.train(trained, AdamWConfig(lr=5e-3), steps=100, rows=4)
    half = len(text) // 2
    new, answers = _pieces(text[half:], 300, seed=1)
    rows = []
    for start, backbone in (("fresh", Decoder(_tiny.shape())), ("trained on bytes", trained)):
        for what in ("head", "all"):
            model = Classifier(copy.deepcopy(backbone), classes=3)
            model.train_only(what)
            optimizer = AdamW(
                [p for p in model.parameters() if p.requires_grad], lr=2e-2 if what == "head" else 3e-3
            )
            for step in range(50):
                pieces, labels = _pieces(text[:half], 24, step)
                optimizer.zero_grad()
                nll(model(pieces, Packed([32] * 24)).log_softmax(-1), labels).mean().backward()
                optimizer.step()
            with torch.no_grad():
                right = model(new, Packed([32] * 300)).argmax(1) == answers
            rows.append((start, what, model.trainable(), right.float().mean().item()))
    return Exhibit(
        title="50 steps on 24 pieces of a module's first half each; accuracy on 300 pieces of its second half (guessing: 0.333)",
        columns=("backbone", "trained", "weights trained", "accuracy"),
        rows=rows,
        reads="The head over 256 bytes gives way to one over 3 classes. On a trained backbone 147 weights read off what it knows of the order of bytes; on a fresh "
        "one there is little to read. Training all of it costs the gradients of every layer and finds what the backbone did not have.",
    )


def _pieces(text: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` pieces of 32 bytes laid end to end, and what became of each: as written 0, backwards 1, shuffled 2."""
    generator = torch_generator(seed, "pieces")
    labels = torch.randint(3, (count,), generator=generator)
    starts = torch.randint(len(text) - 32, (count,), generator=generator)
    pieces = text[starts[:, None] + torch.arange(32)]
    shuffled = pieces.gather(1, torch.rand(count, 32, generator=generator).argsort(1))
    made = torch.stack([pieces, pieces.flip(1), shuffled])[labels, torch.arange(count)]
    return made.flatten(), labels
