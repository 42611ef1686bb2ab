from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.data.prepare import PrepareConfig, prepare
from orrery.data.source import FilesSource
from orrery.evaluate.contamination import Contamination, contamination, overlapping, words
from orrery.evaluate.record import Record
from orrery.evaluate.results import TaskResult
from orrery.kit.artifact import write_receipt
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
SHORT = "alpha beta gamma delta epsilon zeta"


def test_thirteen_words_in_a_row_or_a_short_question_whole() -> None:
    texts = [f"before {LONG} after", "alpha beta gamma delta epsilon and zeta"]
    questions = {
        0: LONG,
        1: " ".join(LONG.split()[:12]) + " else",  # twelve and another
        2: " ".join(LONG.split()[:12]),  # short, and whole
        3: SHORT,  # not in a row
        4: "one two three",  # too short to look for
        5: "x y z " + " ".join(LONG.split()[:13]),
    }
    found, checked, count = overlapping(questions, texts)
    assert (found, checked, count) == ({0, 2, 5}, 5, 2)
    assert overlapping(questions, texts, n=6)[0] == {0, 1, 2, 5}


def test_line_breaks_case_and_punctuation_hide_nothing() -> None:
    broken = LONG.replace(" ", ",\n  ", 6).upper()
    assert overlapping({0: LONG}, [broken])[0] == {0}
    assert words("Don't — stop: 東京と") == ["don", "t", "stop", "東", "京", "と"]


def test_a_run_of_words_over_the_border_of_two_texts_is_none() -> None:
    first, second = LONG[: len(LONG) // 2], LONG[len(LONG) // 2 :]
    assert overlapping({0: LONG}, [first, second])[0] == set()


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), min_size=6, max_size=30), st.lists(st.sampled_from("abcd"), max_size=60)
)
def test_it_is_what_a_search_finds(question: list[str], text: list[str]) -> None:
    size = min(8, len(question))
    runs = {tuple(question[i : i + size]) for i in range(len(question) - size + 1)}
    expected = any(tuple(text[i : i + size]) in runs for i in range(len(text) - size + 1))
    found, _, _ = overlapping({7: " ".join(question)}, [" ".join(text)], n=8)
    assert found == ({7} if expected else set())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Tokenizer]]:
    """(folder's name) -> the folder of a model that was trained on prepared shards, and its tokenizer."""

    def make(name: str) -> tuple[Path, Tokenizer]:
        root = tmp_path_factory.mktemp(name)
        (root / "text").mkdir()
        for i in range(8):
            (root / "text" / f"{i}.txt").write_text(
                f"Text number {i}.\n{LONG}\n" if i % 2 else f"Nothing {i} here.\n" * 9
            )
        tokenizer = train_tokenizer([LONG * 20], TokenizerConfig(vocab_size=300))
        (root / "tokenizer").mkdir()
        tokenizer.save(root / "tokenizer")
        write_receipt(root / "tokenizer", kind="tokenizer", operation="test")
        source = FilesSource(paths=(str(root / "text"),))
        prepare(
            PrepareConfig(source=source, heldout=0.0),
            tokenizer,
            root / "data",
            parents={"tokenizer": root / "tokenizer"},
        )
        (root / "model").mkdir()
        write_receipt(root / "model", kind="model", operation="train", parents={"data": root / "data"})
        return root / "model", tokenizer

    return make


def test_the_shards_of_the_lineage_are_looked_through(made: Callable[..., tuple[Path, Tokenizer]]) -> None:
    folder, tokenizer = made("whole")
    seen = contamination({3: f"Q: {LONG}?", 4: SHORT}, folder, tokenizer)
    assert (seen.status, seen.ids, seen.checked) == ("found", (3,), 2) and seen.texts >= 4
    clean = contamination({4: SHORT}, folder, tokenizer)
    assert (clean.status, clean.ids) == ("clean", ())


def test_what_cannot_be_looked_at_is_unknown(
    made: Callable[..., tuple[Path, Tokenizer]], tmp_path: Path
) -> None:
    folder, tokenizer = made("gone")
    for item in (folder.parent / "data").iterdir():
        item.unlink()
    gone = contamination({4: SHORT}, folder, tokenizer)
    assert gone.status == "unknown" and "gone" in gone.reason
    assert contamination({4: SHORT}, None, tokenizer).status == "unknown"
    (tmp_path / "model").mkdir()
    write_receipt(tmp_path / "model", kind="model", operation="convert")
    foreign = contamination({4: SHORT}, tmp_path / "model", tokenizer)
    assert foreign.status == "unknown" and "(convert)" in foreign.reason


def test_the_rows_of_tuning_are_looked_through(tmp_path: Path) -> None:
    (tmp_path / "sft.jsonl").write_text(f'{{"messages": [{{"content": "{LONG}\\nand so on"}}]}}\n')
    (tmp_path / "model").mkdir()
    sets = [
        {"paths": ["*.jsonl"]},
        {"generator": {"name": "arithmetic", "n": 5, "seed": 2000, "difficulty": 1}},
    ]
    tokenizer = train_tokenizer([LONG * 20], TokenizerConfig(vocab_size=300))
    write_receipt(
        tmp_path / "model", kind="model", operation="tune", recipe={"data": sets, "data_root": str(tmp_path)}
    )
    seen = contamination({1: LONG, 2: SHORT}, tmp_path / "model", tokenizer)
    assert (seen.status, seen.ids, seen.texts) == ("found", (1,), 6)
    (tmp_path / "sft.jsonl").unlink()
    assert (
        "which it was tuned on, is not there"
        in contamination({2: SHORT}, tmp_path / "model", tokenizer).reason
    )


def test_scores_without_what_was_seen() -> None:
    records = [Record(id=i, key=str(i), scores={"acc": float(i < 3)}) for i in range(5)]
    settings = {"task": {"name": "t", "version": 1}}
    seen = Contamination(status="found", reason="", ids=(0, 1), checked=5, texts=1)
    result = TaskResult.of(records, settings=settings, contamination=seen)
    assert result.metrics["acc"].mean == 0.6
    assert result.without(frozenset(seen.ids)).metrics["acc"].mean == pytest.approx(1 / 3)
