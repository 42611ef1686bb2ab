"""Models that recall, to where they recall, and where in the context they do."""

from __future__ import annotations

import re

import pytest

from orrery.evaluate.long_context.documents import made_up_lives, multi_document
from orrery.evaluate.long_context.effective import effective_length, over_tasks
from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.fit import Frame
from orrery.evaluate.long_context.key_values import key_values
from orrery.evaluate.long_context.middle import position_curve, spread, sweep
from orrery.evaluate.long_context.report import LongReport, depth_grid, figures, markdown, write
from orrery.evaluate.long_context.run import Record, Records, estimate, run_lengths
from orrery.evaluate.long_context.tasks import items
from orrery.glossary.exhibits._recall import WINDOW, item, recall_lm
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.engine.engine import Engine
from orrery.text import TokenizerConfig, train_tokenizer

HAY = Filler.made_up(sentences=60)


class Reader:
    """A scripted model that reads the text of its prompt and answers by a rule, from a token on that it still sees."""

    def __init__(self, rule, sees: int | None = None) -> None:
        self.tokenizer = train_tokenizer([" ".join(HAY.sentences)], TokenizerConfig(vocab_size=500))
        self.rule, self.sees = rule, sees

    def generate(self, requests: list[GenerateRequest]) -> list[Completion]:
        texts = [self.tokenizer.decode(r.ids if self.sees is None else r.ids[-self.sees :]) for r in requests]
        return [
            Completion(text=self.rule(text), ids=(), logprobs=(), finish_reason="stop", cached_tokens=2)
            for text in texts
        ]


def find_number(text: str) -> str:
    found = re.search(r"is (\d{7})\.", text)
    return f" {found[1]}." if found else " no idea"


def row(score: float | None, length: int = 100, **tags) -> Record:
    return Record(
        task="t", index=tags.pop("index", 0), length=length, score=score, text="", answers=(), tags=tags
    )


def test_effective_length_of_a_reader_with_a_horizon() -> None:
    """It sees 600 tokens: every needle in prompts of 600, in longer ones those near the end."""
    reader = Reader(find_number, sees=600)
    frame = Frame(tokenizer=reader.tokenizer)
    records = run_lengths(
        reader, items("needle", n=4, depths=5, filler=HAY), [300, 600, 1200, 1500], frame=frame, context=1400
    )
    found = effective_length(records.by_length("needle"), threshold=0.8)
    assert (found.tokens, found.low, found.high, found.tested) == (600, 600, 600, 1500)
    assert not found.open_end
    assert found.scores[600].mean == 1.0 and 0.2 <= found.scores[1200].mean <= 0.6
    assert found.scores[1500] is None
    assert records.unscored == {"longer than the model's context": 20}
    depths, lengths, table = depth_grid(records.rows)
    assert (depths, lengths) == ([0, 0.25, 0.5, 0.75, 1], [300, 600, 1200, 1500])
    assert [line[2] for line in table] == [0, 0, 0, 1, 1]
    assert [line[3] for line in table] == [None] * 5


def test_effective_length_by_hand() -> None:
    """Unscored answers are no zeros, but a length passes only if it did had they been wrong."""
    rows = {
        100: [row(1.0)] * 40,
        200: [row(1.0)] * 36 + [row(0.0)] * 4,
        300: [row(1.0)] * 30 + [row(None)] * 10,
        400: [row(1.0)] * 40,
    }
    found = effective_length(rows, threshold=0.85)
    assert found.scores[300].mean == 1.0
    assert (found.tokens, found.low, found.high) == (200, 100, 200)
    assert effective_length({100: [row(0.0)] * 9}).tokens == 0


def test_estimates() -> None:
    assert estimate([row(None)]) is None
    half = estimate([row(0.5), row(0.5), row(None)])
    assert (half.mean, half.n) == (0.5, 2)
    records = Records(
        tuple(
            Record(task=t, index=0, length=9, score=s, text="", answers=())
            for t, s in (("a", 1.0), ("b", 0.5))
        )
    )
    assert over_tasks(records)[9].mean == 0.75


def test_a_trained_model_recalls_up_to_its_window() -> None:
    """Trained for seconds on needles; its one layer sees 96 tokens. The engine reads what prompts share once."""
    lm = recall_lm(WINDOW)
    made = [item(i, depth) for i in range(6) for depth in (1, 0.5, 0)]
    records = run_lengths(
        Engine(lm), made, [64, WINDOW, 2 * WINDOW, 4 * WINDOW], frame=Frame.of(lm), context=lm.context
    )
    found = effective_length(records.by_length("needle"))
    assert found.scores[64].mean >= 0.95 and found.scores[WINDOW].mean >= 0.9
    assert found.tokens == WINDOW
    depths, _, table = depth_grid(records.rows)
    assert table[depths.index(1)][-1] >= 0.8 and table[depths.index(0)][-1] <= 0.2
    assert records.cached_share > 0.1
    again = run_lengths(lm, made[:3], [2 * WINDOW], frame=Frame.of(lm), context=lm.context)
    kept = [r for r in records.rows if r.length == 2 * WINDOW][:3]
    assert [r.text for r in again.rows] == [r.text for r in kept]


def test_a_model_that_forgets_the_middle_gives_a_u() -> None:
    """The reader knows the first and last third of its prompt."""

    def ends(text: str) -> str:
        asked = re.search(r'Key: "(\w+)"', text)
        third = len(text) // 3
        found = re.search(rf'"{asked[1]}": "(\w+)"', text[:third] + "\n" + text[2 * third :])
        return found[1] if found else "unknown"

    reader = Reader(ends)
    frame = Frame(tokenizer=reader.tokenizer)
    places = spread(30, 6)
    assert places == (0, 6, 12, 17, 23, 29)
    curve, records = sweep(
        reader, lambda i, p: key_values(seed=0, index=i, position=p), n=8, size=30, positions=places,
        frame=frame, context=10_000,
    )  # fmt: skip
    assert curve.u_shaped and curve.verdict.startswith("U-shaped")
    assert curve.scores[0].mean == curve.scores[29].mean == 1.0
    assert curve.scores[12].mean == curve.scores[17].mean == 0.0
    assert curve.primacy.mean == curve.recency.mean == 1.0 and curve.middle == (12, 17)
    assert len(records.rows) == 48


def test_flat_and_lopsided_curves_are_no_u() -> None:
    def table(*by_position: float) -> list[Record]:
        return [row(s, index=i, position=p) for i in range(10) for p, s in enumerate(by_position)]

    assert not position_curve(table(1, 1, 1), size=3).u_shaped
    lopsided = position_curve(table(1, 0, 0), size=3)
    assert not lopsided.u_shaped and lopsided.verdict.startswith("not a U: only the start")
    assert position_curve(table(0, 1, 0), size=3).verdict.startswith("no better at the ends")
    missing = position_curve(
        [
            *table(1, 0, 1),
            row(None, index=10, position=0),
            row(1, index=10, position=1),
            row(1, index=10, position=2),
        ],
        size=3,
    )
    assert (missing.items, missing.unscored) == (10, 1)
    assert position_curve(table(1, 0, 1)[:3], size=3).verdict.startswith("too few")
    with pytest.raises(OrreryError, match="3 positions"):
        spread(2, 2)


def test_multi_document_sweep() -> None:
    rows = made_up_lives(40, seed=0)
    answers = {r.question: r.answers[0] for r in rows}
    reader = Reader(lambda text: answers[re.search(r"Question: (.*\?) Answer in", text)[1]])
    curve, _ = sweep(
        reader, lambda i, p: multi_document(rows, seed=0, index=i, position=p), n=3, size=10, positions=spread(10, 3),
        frame=Frame(tokenizer=reader.tokenizer), context=10_000,
    )  # fmt: skip
    assert [score.mean for score in curve.scores.values()] == [1.0, 1.0, 1.0]


def test_the_report_holds_tables_and_figures(tmp_path) -> None:
    reader = Reader(find_number)
    frame = Frame(tokenizer=reader.tokenizer)
    records = run_lengths(
        reader, items("needle", n=2, depths=3, filler=HAY), [400, 800], frame=frame, context=600
    )
    curve = position_curve([row(1.0, index=i, position=p) for i in range(3) for p in range(3)], size=3)
    report = LongReport(records=records, curves={"key-values": curve}, settings={"model": "<reader>"})
    folder = write(report, tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == [
        "lengths.svg", "long.json", "needle.svg", "positions-key-values.svg", "report.md", "samples.jsonl",
    ]  # fmt: skip
    assert "| needle | 100 [61, 100] | not scored | 400 [0, 400] |" in markdown(report)
    assert "Not scored: 6 (longer than the model's context)." in markdown(report)
    assert ">×<" in figures(report)["needle.svg"] and ">100<" in figures(report)["needle.svg"]
