"""An exhibit of test questions in the training text: the score they lift, and the search that finds them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from orrery.evaluate.contamination import overlapping
from orrery.evaluate.run_task import run_task
from orrery.evaluate.task import Task
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _tiny
from orrery.glossary.exhibits._recall import word_tokenizer
from orrery.kit.config import resolve
from orrery.kit.seeds import numpy_generator
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.lm import LM
from orrery.text.tokenizer import Tokenizer
from orrery.train.loss import cross_entropy
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import Muon
from orrery.train.schedule import Cosine, lr_at

STEPS = 120


def contaminated_score() -> Exhibit:
    """The same small model trained with and without some of the test's answers, and what a search for n-grams finds."""
    names = (
        "mara",
        "oskar",
        "ivo",
        "lena",
        "tilda",
        "bruno",
        "selma",
        "anton",
        "greta",
        "emil",
        "clara",
        "felix",
    )
    places = ("north", "south", "east", "west")
    facts = [(name, place) for name in names for place in places]
    rng = numpy_generator(0, "facts")
    colours = ("red", "green", "blue", "black")
    told = {fact: str(rng.choice(colours)) for fact in facts}
    questions = {i: f"the coat of {name} from the {place} is" for i, (name, place) in enumerate(facts)}
    whole = {i: f"{questions[i]} {told[facts[i]]}" for i in questions}
    other = [
        f"the coat of {rng.choice(names)} near the {rng.choice(places)} was {rng.choice(colours)}"
        for _ in range(48)
    ]
    tokenizer = word_tokenizer([*whole.values(), *other])
    rows = []
    for name, leaked in (("nothing leaked", ()), ("half leaked", tuple(range(0, 48, 2)))):
        texts = [*other, *(whole[i] for i in leaked)]
        model = _read(tokenizer, texts)
        found, checked, _ = overlapping(whole, texts)
        right = _right(
            LM(model=model, tokenizer=tokenizer), questions, [told[fact] for fact in facts], colours
        )
        clean = [right[i] for i in questions if i not in found]
        rows.append(
            (name, sum(right) / len(right), len(found), len(leaked), checked, sum(clean) / len(clean))
        )
    return Exhibit(
        title=f"48 questions that cannot be known, four choices each (guessing: {1 / len(colours):.2f})",
        columns=(
            "training text",
            "accuracy",
            "found by n-grams",
            "leaked",
            "looked for",
            "accuracy without those",
        ),
        rows=rows,
        reads="The answers were drawn at random, so whatever is above guessing was read before the test. The search finds just the planted "
        "questions, and without them the score falls back.",
    )


def _read(tokenizer: Tokenizer, texts: Sequence[str]) -> Decoder:
    """A decoder that has read the texts many times over."""
    model = Decoder(_tiny.shape(vocab_size=tokenizer.vocab_size, d_model=32, n_heads=2))
    optimizer = build_optimizer(model, Muon(lr=0.03))
    rows = [tokenizer.encode(text) for text in texts]
    tokens = torch.tensor([i for ids in rows for i in ids[:-1]])
    targets = torch.tensor([i for ids in rows for i in ids[1:]])
    for step in range(STEPS):
        optimizer.set_lr(lr_at(Cosine(warmup=5), step, STEPS))
        optimizer.zero_grad()
        hidden = model(tokens, Packed([len(ids) - 1 for ids in rows]))
        cross_entropy(hidden, model.head, targets, torch.ones(len(targets))).mean().backward()
        optimizer.step()
    return model.eval()


def _right(lm: LM, questions: dict[int, str], answers: list[str], choices: tuple[str, ...]) -> list[bool]:
    rows = [{"question": questions[i], "answer": answers[i]} for i in questions]
    task = resolve(Task, {
        "name": "coats", "version": 1, "about": "Colours of coats.", "kind": "choices", "data": {"path": "q.jsonl"},
        "prompt": "{{ question }}", "choices": list(choices), "choice": " {{ choice }}", "answer": "{{ answer }}",
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as room:
        (Path(room) / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [bool(record.scores["acc"]) for record in run_task(lm, task, data=Path(room)).records]
