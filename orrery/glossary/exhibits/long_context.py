"""Exhibits of long context: needles by depth and length, what a length is good for, and what stands in the middle."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from orrery.evaluate.content_words import content_stems
from orrery.evaluate.long_context.effective import effective_length
from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.fit import Frame, fitted
from orrery.evaluate.long_context.item import Item, score_answer
from orrery.evaluate.long_context.middle import spread, sweep
from orrery.evaluate.long_context.needle import needle
from orrery.evaluate.long_context.nolima import ASSOCIATIONS, lexical_overlap, nolima
from orrery.evaluate.long_context.report import depth_grid
from orrery.evaluate.long_context.run import Records, run_lengths
from orrery.evaluate.long_context.tasks import RULER, items
from orrery.evaluate.truth.claims import split_sentences
from orrery.glossary.exhibit import Exhibit, Grid
from orrery.glossary.exhibits import _prepared
from orrery.glossary.exhibits._recall import LENGTH, WINDOW, item, recall_lm
from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.lm import LM

LENGTHS, DEPTHS = (64, 96, 192, 384), (0.0, 0.25, 0.5, 0.75, 1.0)


@functools.cache
def _records(window: int | None) -> Records:
    lm = recall_lm(window)
    made = [item(i, depth) for i in range(8) for depth in DEPTHS]
    return run_lengths(lm, made, LENGTHS, frame=Frame.of(lm), context=lm.context)


def needles_by_depth_and_length() -> Exhibit:
    """Two models that learned to find needles in short prompts: where they find them in longer ones."""
    grids = []
    for name, window in (("sees everything", None), (f"sees {WINDOW} tokens back", WINDOW)):
        depths, lengths, table = depth_grid(_records(window).rows)
        grids.append(
            Grid(
                title=f"found, by a layer that {name}",
                values=[[value or 0.0 for value in row] for row in table],
                rows=[f"{depth:.0%} deep" for depth in depths],
                columns=[str(n) for n in lengths],
            )
        )
    columns = ("layer", "depth", *(f"{n} tokens" for n in LENGTHS))
    rows = [
        (name, label, *values)
        for name, grid in zip(("all", f"window {WINDOW}"), grids, strict=True)
        for label, values in zip(grid.rows, grid.values, strict=True)
    ]
    return Exhibit(
        title=f"Needles found, trained on prompts of {LENGTH} tokens; lengths across, depths down",
        grids=grids,
        columns=columns,
        rows=rows,
        reads="The window finds what lies close to the question and nothing else: the boundary in its map is the window. The other layer looks everywhere, "
        "and still fails at several times the length it was trained on. One mean over the map would hide both.",
    )


def lengths_that_work() -> Exhibit:
    """Score with interval at each length, and the effective context length of both models at two thresholds."""
    rows = []
    for name, window in (("all", None), (f"window {WINDOW}", WINDOW)):
        for threshold in (0.5, 0.856):
            found = effective_length(_records(window).by_length("needle"), threshold=threshold)
            scores = [
                f"{s.mean:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in found.scores.values() if s is not None
            ]
            rows.append(
                (
                    name,
                    recall_lm(window).context,
                    threshold,
                    *scores,
                    f"{found.tokens} [{found.low}, {found.high}]",
                )
            )
    return Exhibit(
        title="40 needles at each length",
        columns=(
            "layer",
            "accepts",
            "threshold",
            *(f"{n} tokens" for n in LENGTHS),
            "effective length [interval]",
        ),
        rows=rows,
        reads="Both models accept thousands of tokens and use a few hundred at most. The number depends on the threshold and on how many items stand behind it: "
        "the interval's lower end counts only lengths that pass with their interval's low end.",
    )


class _CutInTheMiddle:
    """A model behind a front that keeps the first and the last tokens of prompts that are too long."""

    def __init__(self, lm: LM, *, first: int, last: int) -> None:
        self.lm, self.first, self.last = lm, first, last

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        return self.lm.generate(
            [replace(r, ids=[*r.ids[: self.first], *r.ids[-self.last :]]) for r in requests]
        )


def the_middle_of_a_context() -> Exhibit:
    """One needle moved through the same hay, for three readers: a curve that is flat, one that rises, and a U."""
    words, lm = 100, recall_lm()
    positions = spread(words, 7)

    def make(index: int, position: int) -> Item:
        return replace(item(index, position / words), tags={"position": position})

    readers = {
        "sees everything": lm,
        f"window of {WINDOW}": recall_lm(WINDOW),
        "prompt cut in the middle": _CutInTheMiddle(lm, first=56, last=60),
    }
    rows = []
    for name, reader in readers.items():
        curve, _ = sweep(
            reader, make, n=12, size=words, positions=positions, frame=Frame.of(lm), context=lm.context
        )
        scores = [score.mean for score in curve.scores.values() if score is not None]
        ends = [
            f"{side.mean:+.2f} [{side.low:+.2f}, {side.high:+.2f}]"
            for side in (curve.primacy, curve.recency)
            if side
        ]
        rows.append((name, *scores, *ends, curve.u_shaped))
    return Exhibit(
        title=f"12 needles, each at 7 places among {words} words",
        columns=(
            "reader",
            *(f"word {p}" for p in positions),
            "first less middle",
            "last less middle",
            "U-shaped",
        ),
        rows=rows,
        reads="A window forgets the start; a front that cuts long prompts in the middle makes a U, as large models do by themselves. Both ends have to beat the "
        "middle by more than chance before the report speaks of a U.",
    )


def tasks_of_exact_length() -> Exhibit:
    """Each RULER-like task at 1024 tokens: what is wanted, and what repeating the start of the context would score."""
    frame = Frame(tokenizer=_prepared.tokenizer())
    rows = []
    for name in RULER:
        (made, *_) = items(name, n=1, depths=1)
        trial = fitted(made, frame, 1024)
        right = ", ".join(spellings[0] for spellings in made.answers)
        echo = " ".join(made.context(trial.size).split()[: made.max_tokens])
        rows.append(
            (
                name,
                trial.length,
                trial.size,
                len(made.answers),
                score_answer(right, made),
                score_answer(echo, made),
            )
        )
    return Exhibit(
        title="Prompts of exactly 1024 tokens by a tokenizer of 1000",
        columns=(
            "task",
            "tokens",
            "words or documents",
            "answers wanted",
            "score of the right answer",
            "of echoing the start",
        ),
        rows=rows,
        reads="Every task is made to measure, frame and question included, so that scores at a length mean that length. Where answers have a known form, only as "
        "many are read as are wanted: a model that repeats its prompt gains little by it.",
    )


def matching_words_finds_needles() -> Exhibit:
    """A reader that knows nothing and picks the sentence with most words of the question: how far it gets."""
    hay = Filler.made_up(sentences=60)
    kinds = {
        "needle": [needle(hay, seed=0, index=i, depth=0.5, value_kind="name") for i in range(16)],
        "nolima, one hop": [nolima(hay, seed=0, index=i) for i in range(len(ASSOCIATIONS))],
        "nolima, two hops": [nolima(hay, seed=0, index=i, hops=2) for i in range(len(ASSOCIATIONS))],
    }
    rows = []
    for name, made in kinds.items():
        found, shared = 0.0, 0
        for one in made:
            question = one.question.split("?")[0]
            sentences = split_sentences(one.context(400))
            asked = content_stems(question)
            best = max(sentences, key=lambda s, asked=asked: len(asked & content_stems(s)))
            found += score_answer(best, one)
            holds = next(s for s in sentences if one.answers[0][0] in s)
            shared += len(lexical_overlap(question, holds))
        rows.append((name, len(made), shared / len(made), found / len(made)))
    return Exhibit(
        title="Picking a sentence out of 400 words by shared words alone",
        columns=(
            "task",
            "questions",
            "content stems shared with the needle",
            "answered by matching words",
        ),
        rows=rows,
        reads="An ordinary needle repeats the question's words, and a search for words answers it without understanding. Without shared words nothing is left "
        "to match: who answers must know what the needle implies.",
    )
