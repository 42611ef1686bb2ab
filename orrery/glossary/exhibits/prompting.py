"""Exhibits of asking: what examples in the prompt do to a model whose weights stay as they are, and what the form of a prompt does."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from orrery.evaluate.compare import compare
from orrery.evaluate.likelihood import Continuations
from orrery.evaluate.results import TaskResult
from orrery.evaluate.run_task import run_task
from orrery.evaluate.task import Task
from orrery.evaluate.variants import prompt_variants
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.glossary.exhibits._recall import word_tokenizer
from orrery.kit.config import resolve
from orrery.kit.lm import EmbedRequest
from orrery.kit.seeds import numpy_generator, torch_generator
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.lm import LM
from orrery.train.loss import cross_entropy
from orrery.train.optim.adam import AdamW as AdamWStep
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW, Muon
from orrery.train.schedule import Cosine, lr_at

THINGS, COLOURS = ("boat", "door", "lamp"), ("red", "green", "blue")
PAIRS, STEPS, ROWS = 10, 150, 24
SHOTS = (0, 1, 2, 4, 8)
QUESTIONS = 120


@functools.cache
def rule_lm() -> LM:
    """A decoder that has read "boat red lamp blue boat red ...", where every text paints the things anew."""
    tokenizer = word_tokenizer([" ".join((*THINGS, *COLOURS, "is", "paint"))])
    shape = {"vocab_size": tokenizer.vocab_size, "d_model": 32, "n_heads": 2}
    model = Decoder(_tiny.shape(**shape))
    optimizer, schedule = build_optimizer(model, Muon(lr=0.03)), Cosine(warmup=10)
    things, colours = (torch.tensor([tokenizer.id(w) for w in words]) for words in (THINGS, COLOURS))
    asked = torch.zeros(ROWS, 2 * PAIRS - 1)
    asked[:, 0::2] = 1
    for step in range(STEPS):
        drawn = torch_generator(0, "rules", step)
        rules = torch.randint(len(COLOURS), (ROWS, len(THINGS)), generator=drawn)
        thing = torch.randint(len(THINGS), (ROWS, PAIRS), generator=drawn)
        ids = torch.stack([things[thing], colours[rules.gather(1, thing)]], -1).flatten(1)
        optimizer.set_lr(lr_at(schedule, step, STEPS))
        optimizer.zero_grad()
        hidden = model(ids[:, :-1].flatten(), Packed([2 * PAIRS - 1] * ROWS))
        cross_entropy(hidden, model.head, ids[:, 1:].flatten(), asked.flatten()).mean().backward()
        optimizer.step()
    return LM(model=model.eval(), tokenizer=tokenizer)


def write_rules(folder: Path) -> None:
    """questions.jsonl and shots.jsonl: each question has a rule of its own, which eight further rows show."""
    rng = numpy_generator(0, "rule questions")
    questions, shown = [], []
    for rule in range(QUESTIONS):
        paint = {thing: str(rng.choice(COLOURS)) for thing in THINGS}
        for i in range(1 + max(SHOTS)):
            thing = str(rng.choice(THINGS))
            row = {"rule": rule, "place": i, "thing": thing, "colour": paint[thing], "colours": COLOURS}
            (questions if i == 0 else shown).append(row)
    for name, rows in (("questions", questions), ("shots", shown)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rule_task(**changes: Any) -> Task:
    """What colour is the thing? Its demonstrations follow the question's own rule."""
    settings: dict[str, Any] = {
        "name": "rules", "version": 1, "about": "Colours by a rule that only the examples tell.", "kind": "choices",
        "data": {"path": "questions.jsonl", "shots": "shots.jsonl"}, "shots_by": "rule", "delimiter": " ",
        "prompt": "{{ thing }}", "target": " {{ colour }}", "choices": "{{ colours }}", "choice": " {{ choice }}",
        "answer": "{{ colour }}", "metrics": ["acc"],
    }  # fmt: skip
    return resolve(Task, settings | changes)


def accuracy_by_shots() -> Exhibit:
    """One frozen model, one task, 0 to 8 examples in the prompt: zero-shot, one-shot, few-shot."""
    with tempfile.TemporaryDirectory() as room:
        write_rules(Path(room))
        found = [
            run_task(rule_lm(), rule_task(), data=Path(room), shots=shots).metrics["acc"] for shots in SHOTS
        ]
    return Exhibit(
        title=f"Accuracy on {QUESTIONS} questions, each with a rule of its own (guessing: {1 / len(COLOURS):.2f})",
        columns=("examples", "accuracy", "95% from", "to"),
        rows=[(shots, e.mean, e.low, e.high) for shots, e in zip(SHOTS, found, strict=True)],
        series=[Series(name="accuracy", x=list(SHOTS), y=[e.mean for e in found])],
        x="examples in the prompt",
        y="accuracy",
        reads="No weight changes between the rows: what the model does with a new rule comes from the examples alone. Without any it can "
        "only guess; one helps when it shows the thing that is asked about; with eight nearly every rule is told.",
    )


def in_context_lines() -> Exhibit:
    """A transformer meets y = w x with a new w each time, and learns it from the points in its context."""
    points, rows, steps = 8, 32, 260
    model = Decoder(_tiny.shape(vocab_size=2, d_model=32))
    before, after = nn.Linear(2, 32), nn.Linear(32, 1)
    for i, layer in enumerate((before, after)):
        nn.init.normal_(layer.weight, std=0.2, generator=torch_generator(0, "lines", i))
        nn.init.zeros_(layer.bias)
    weights = [
        *model.blocks.parameters(),
        *model.norm.parameters(),
        *before.parameters(),
        *after.parameters(),
    ]
    optimizer = AdamWStep(weights, lr=4e-3, weight_decay=0.0)

    def predictions(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(n, points) of y at each x, from the points before it."""
        n = len(x)
        pairs = torch.stack(
            [torch.stack([x, 0 * x], -1), torch.stack([0 * y, y], -1)], 2
        )  # (n, points, 2, 2)
        hidden = model.run(before(pairs.flatten(0, 2)), Packed([2 * points] * n))
        return after(hidden).view(n, points, 2)[:, :, 0]

    def draw(step: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = torch_generator(0, "lines", "points", step)
        x = torch.randn(n, points, generator=drawn)
        return x, x * torch.randn(n, 1, generator=drawn)

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, 2 * (steps - step) / steps)
        x, y = draw(step, rows)
        optimizer.zero_grad()
        (predictions(x, y) - y).square().mean().backward()
        optimizer.step()
    x, y = draw(-1, 400)
    with torch.no_grad():
        error = (predictions(x, y) - y).square().mean(0).tolist()
    shown = list(range(points))
    return Exhibit(
        title="Squared error on 400 lines it never met, by how many points of the line stand in the context",
        columns=("points seen", "squared error", "always saying 0"),
        rows=[(k, error[k], y[:, k].square().mean().item()) for k in shown],
        series=[Series(name="two-layer transformer", x=shown, y=error)],
        x="points in the context",
        y="mean squared error",
        reads="Two points of a line are one too many: w = y / x. The error falls with the first point and goes on falling a little, while the "
        "weights stay as they are. What was learned in training is how to learn a line.",
    )


def ways_of_asking() -> Exhibit:
    """The same questions and the same four examples, in prompts of different form, compared question by question."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        write_rules(folder)
        ways = {
            "version": 1,
            "prompts": {
                "as trained": {},
                "a word before the answer": {"target": " is {{ colour }}", "choice": " is {{ choice }}"},
                "a line before the question": {"preamble": "paint paint "},
                "a strange mark between": {"delimiter": " ## "},
            },
        }
        (folder / "ways.yaml").write_text(json.dumps(ways))
        tasks = prompt_variants(rule_task(shots=4), folder / "ways.yaml")
        results = {name: run_task(rule_lm(), task, data=folder) for name, task in tasks.items()}
    first = results["as trained"]
    rows = [
        (name, result.metrics["acc"].mean, *_difference(first, result)) for name, result in results.items()
    ]
    return Exhibit(
        title=f"Four ways to ask the same {QUESTIONS} questions",
        columns=("prompt", "accuracy", "difference", "95% from", "to", "p (McNemar)"),
        rows=rows,
        reads="Nothing is asked that was not asked before, yet the score moves: a form the model has not met hides the examples from it. "
        "A change of prompt is a change of system, to be measured on the same questions and told with the score.",
    )


def _difference(a: TaskResult, b: TaskResult) -> tuple[float, float, float, float]:
    metric = compare(a, b).metrics["acc"]
    p = 1.0 if metric.mcnemar is None else metric.mcnemar.p
    return metric.difference.mean, metric.difference.low, metric.difference.high, p


def tasks_through_one_harness() -> Exhibit:
    """One checkpoint, four tasks of three kinds: n, score and interval of each."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        write_rules(folder)
        pair = {
            "good": "{{ thing }} {{ colour }} {{ thing }} {{ colour }}",
            "bad": "{{ thing }} {{ colour }} {{ thing }} is",
        }
        tasks = {
            "the rule, 0 examples": rule_task(),
            "the rule, 8 examples": rule_task(shots=8),
            "a colour behind a thing": rule_task(
                kind="pairs", prompt="", choices=(), answer="", pair=pair, metrics=["acc"], shots_by=""
            ),
            "bits per byte": rule_task(
                kind="rolling",
                target="{{ thing }} {{ colour }} {{ thing }} {{ colour }}",
                metrics=["bits_per_byte"],
            ),
        }
        results = {name: run_task(rule_lm(), task, data=folder) for name, task in tasks.items()}
    rows = []
    for name, result in results.items():
        metric = next(m for m in ("acc", "bits_per_byte") if m in result.metrics)
        e = result.metrics[metric]
        rows.append((name, result.settings["task"]["kind"], metric, e.mean, e.low, e.high, result.n))
    return Exhibit(
        title="A small pretrained decoder on four tasks",
        columns=("task", "kind", "metric", "score", "95% from", "to", "n"),
        rows=rows,
        reads="One model, frozen, asked in several ways through one program: what it can do is a row of numbers, not one. "
        "It is perfect at the form and helpless at the rule until examples tell it.",
    )


def shots_read_once() -> Exhibit:
    """Tokens that a few-shot task has, and tokens that are read when beginnings are shared."""
    lm = rule_lm()
    rows = []
    for shots in (0, 2, 8):
        shown = " ".join(f"{THINGS[i % 3]} {COLOURS[i % 3]}" for i in range(shots))
        scorer = Continuations(lm.model)
        contexts = [lm.tokenizer.encode(f"{shown} {thing}".strip()) for thing in THINGS]
        choices = [lm.tokenizer.encode(colour) for colour in COLOURS]
        scorer.score([(context, choice) for context in contexts for choice in choices])
        rows.append((shots, scorer.asked, scorer.tokens, scorer.asked / scorer.tokens))
    return Exhibit(
        title="Three questions with three choices each, behind the same examples",
        columns=("examples", "tokens of all sequences", "tokens read", "times fewer"),
        rows=rows,
        reads="Examples are the same for every question and the question is the same for every choice: a tree of tokens is read once, "
        "where separate sequences would be read nine times.",
    )


def one_example_of_each() -> Exhibit:
    """Pieces of text sorted by the nearest of a few examples in a model's embeddings: one example a class, then more."""
    size, tests = 96, 40
    model = Decoder(_tiny.shape())
    _tiny.train(model, AdamW(lr=5e-3), steps=60, rows=4)
    lm = LM(model=model.eval(), tokenizer=word_tokenizer(["a"]))  # bytes are its ids; no text is encoded
    pieces = [
        [list(text.encode()[i : i + size]) for i in range(0, size * (tests + 8), size)]
        for text in _kinds().values()
    ]
    found = [np.stack(lm.embed([EmbedRequest(ids=ids) for ids in of])) for of in pieces]
    centre = np.concatenate(found).mean(0)
    found = [_unit(vectors - centre) for vectors in found]
    rows = [(k, _nearest([v[:k] for v in found], [v[8:] for v in found])) for k in (1, 2, 4, 8)]
    return Exhibit(
        title=f"{len(found) * tests} pieces of {', '.join(_kinds())}, sorted by the nearest class (guessing: {1 / len(found):.2f})",
        columns=("examples of each class", "accuracy"),
        rows=rows,
        reads="One example of each is enough here, for the embedding, learned on another text, already puts like beside like; more change "
        "little. Where classes lie close together one example is mostly an accident.",
    )


@functools.cache
def _kinds() -> dict[str, str]:
    """Three kinds of text: what modules of the library say in words, their code, and digits."""
    words, code = [], []
    for text in _library.texts()[:12]:
        inside = False
        for line in text.splitlines():
            mark = line.count('"""') == 1
            if (inside or line.strip().startswith("#")) and not mark:
                words.append(line.strip("# "))
            elif not inside and not mark and line.strip():
                code.append(line)
            inside ^= mark
    digits = numpy_generator(0, "digits").integers(0, 1000, 4000)
    return {"prose": " ".join(words), "code": "\n".join(code), "digits": " ".join(map(str, digits))}


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _nearest(examples: list[np.ndarray], tests: list[np.ndarray]) -> float:
    """The share of tests whose class has the nearest mean."""
    means = _unit(np.stack([of.mean(0) for of in examples]))
    right = [int((vector @ means.T).argmax()) == label for label, of in enumerate(tests) for vector in of]
    return sum(right) / len(right)
