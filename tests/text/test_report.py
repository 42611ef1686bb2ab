"""The report's numbers, worked by hand and on 193 languages."""

from __future__ import annotations

import gzip
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orrery.kit.errors import OrreryError
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.report import tokenizer_report, vocabulary_sweep, zipf_fit


def byte_tokenizer() -> Tokenizer:
    """One token a byte: every number can be said in advance."""
    return train_tokenizer(["a"], TokenizerConfig(vocab_size=300, min_frequency=99))


def test_a_report_by_hand() -> None:
    report = tokenizer_report(
        byte_tokenizer(), {"en": ["two words", "and more"], "ru": ["да"], "zh": ["你好"], "none": [""]}
    )
    en, ru, zh = report.rows  # an empty label is left out
    assert (en.texts, en.bytes, en.tokens, en.fertility, en.bytes_per_token) == (2, 17, 17, 17 / 4, 1.0)
    assert (ru.bytes, ru.characters, ru.tokens, ru.fertility, ru.characters_per_token) == (4, 2, 4, 4.0, 0.5)
    assert zh.tokens == 6 and zh.fertility is None  # Chinese writes no spaces
    assert (report.total.texts, report.total.tokens, report.total.fertility) == (4, 27, 21 / 5)
    used = {*b"two wordsand more", *"да你好".encode()}
    assert report.unused == 256 - len(used) and report.vocab_size == 272
    assert report.total.faults == 0 and report.total.first_fault is None
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["label"] == "en"


def test_faults_are_counted_and_the_first_is_shown() -> None:
    tokenizer = train_tokenizer(
        ["some Text here"], TokenizerConfig(vocab_size=300, normalizer=("lowercase",))
    )
    report = tokenizer_report(tokenizer, {"x": ["fine", "not Fine here", "NO"]})
    (row,) = report.rows
    assert row.faults == 2 and row.first_fault is not None
    assert (row.first_fault.text, row.first_fault.at) == (1, 4)
    assert (row.first_fault.before, row.first_fault.after) == ("not Fine here", "not fine here")


def test_unknown_tokens_are_counted() -> None:
    tokenizer = train_tokenizer(["ab ab cd"], TokenizerConfig(kind="wordpiece", vocab_size=40))
    (row,) = tokenizer_report(tokenizer, {"x": ["ab x cd zz"]}).rows
    assert row.unknown_tokens == 2 and row.tokens == 5  # ab, [UNK], c, ##d, [UNK]


def test_zipf_on_a_law_that_holds_exactly() -> None:
    for exponent in (0.7, 1.0, 1.4):
        counts = np.round(1e9 / np.arange(1, 2001) ** exponent)
        fit = zipf_fit(np.random.default_rng(0).permutation(counts))
        assert (
            fit.exponent == pytest.approx(exponent, abs=1e-3) and fit.r_squared > 0.9999 and fit.ranks == 2000
        )
    assert math.isnan(zipf_fit([5, 1, 1, 0]).exponent)
    assert zipf_fit([8, 4, 2, 1, 1, 1, 0]).ranks == 3  # what is seen once is left out


def test_the_table_shows_the_costliest_labels() -> None:
    report = tokenizer_report(byte_tokenizer(), {f"label {i}": ["text"] for i in range(1, 60)})
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(report.table(most=5))
    shown = console.export_text()
    assert "54 more labels not shown" in shown and "tokens/word" in shown and " all " in shown


def test_nothing_to_report_on(bpe: Tokenizer) -> None:
    for nothing in ({}, {"x": []}, {"x": [""]}):
        with pytest.raises(OrreryError, match="no text to report on"):
            tokenizer_report(bpe, nothing)


def test_a_larger_vocabulary_takes_fewer_tokens_and_more_parameters(corpus: list[str]) -> None:
    rows = vocabulary_sweep(corpus, corpus, sizes=[280, 400, 700], d_model=64)
    assert [row.vocab_size for row in rows] == [280, 400, 700]
    assert [row.embedding_parameters for row in rows] == [280 * 64, 400 * 64, 700 * 64]
    assert rows[0].tokens_per_byte > rows[1].tokens_per_byte > rows[2].tokens_per_byte
    assert all(row.tokens_per_byte * row.bytes_per_token == pytest.approx(1) for row in rows)
    (untied,) = vocabulary_sweep(corpus, corpus, sizes=[280], d_model=64, tied=False)
    assert untied.embedding_parameters == 2 * 280 * 64
    with pytest.raises(OrreryError, match="no held-out text"):
        vocabulary_sweep(corpus, [""], sizes=[300], d_model=8)


def test_all_languages_of_the_declaration_of_human_rights(bpe: Tokenizer, shared_data: Path) -> None:
    lines = (
        gzip.decompress((shared_data / "pretrain" / "multi_udhr.jsonl.gz").read_bytes()).decode().splitlines()
    )
    texts = {row["id"]: [row["text"]] for row in map(json.loads, lines)}
    report = tokenizer_report(bpe, texts)
    rows = {row.label: row for row in report.rows}
    assert len(rows) == 193 and report.total.faults == 0
    assert rows["eng"].bytes_per_token == max(
        row.bytes_per_token for row in report.rows
    )  # trained on English
    assert (
        rows["jpn"].fertility is None and rows["tha"].fertility is None and rows["rus"].fertility is not None
    )
    assert report.zipf.r_squared > 0.7
