"""Every score of the reference set, sentence by sentence and corpus by corpus."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate.metrics.bleu import Bleu, bleu, corpus_bleu
from orrery.evaluate.metrics.chrf import chrf, corpus_chrf
from orrery.evaluate.metrics.rouge import rouge
from orrery.evaluate.metrics.ter import corpus_ter, ter

EXACT = {"rel": 1e-10, "abs": 1e-10}


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[dict[str, Any]]:
    text = (shared_data / "metric_reference" / "scitldr.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def same(found: Bleu, expected: dict[str, Any]) -> None:
    assert found.score == pytest.approx(expected["score"], **EXACT)
    assert found.precisions == pytest.approx(expected["precisions"], **EXACT)
    assert found.brevity_penalty == pytest.approx(expected["bp"], **EXACT)
    assert (found.hypothesis_length, found.reference_length) == (expected["sys_len"], expected["ref_len"])


def test_every_sentence(rows: list[dict[str, Any]]) -> None:
    assert len(rows) > 50
    for row in rows:
        said, wanted = row["hypothesis"], row["references"]
        assert bleu(said, wanted).score == pytest.approx(row["sentence_bleu"], **EXACT)
        assert chrf(said, wanted) == pytest.approx(row["chrf"], **EXACT)
        assert chrf(said, wanted, word_order=2) == pytest.approx(row["chrf++"], **EXACT)
        assert ter(said, wanted) == pytest.approx(row["ter"], **EXACT)
        for name, expected in row["rouge_vs_first_ref"].items():
            assert rouge(said, wanted[:1], name) == pytest.approx(expected, **EXACT), name
        for name, expected in row["rouge_stemmed_vs_first_ref"].items():
            assert rouge(said, wanted[:1], name, stem=True) == pytest.approx(expected, **EXACT), name


def test_the_corpus(rows: list[dict[str, Any]], shared_data: Path) -> None:
    scores = json.loads((shared_data / "metric_reference" / "scitldr_corpus.json").read_text())
    said, wanted = [row["hypothesis"] for row in rows], [row["references"][:1] for row in rows]
    assert scores["n"] == len(rows)
    same(corpus_bleu(said, wanted), scores["bleu"])
    same(corpus_bleu(said, wanted, lowercase=True), scores["bleu_lowercase"])
    same(corpus_bleu(said, wanted, tokenisation="intl"), scores["bleu_intl"])
    same(corpus_bleu(said, wanted, tokenisation="char"), scores["bleu_char"])
    same(corpus_bleu(said, wanted, tokenisation="none", smoothing="floor"), scores["bleu_none_floor"])
    assert corpus_chrf(said, wanted) == pytest.approx(scores["chrf"]["score"], **EXACT)
    assert corpus_chrf(said, wanted, word_order=2) == pytest.approx(scores["chrf++"]["score"], **EXACT)
    assert corpus_ter(said, wanted) == pytest.approx(scores["ter"]["score"], **EXACT)


@pytest.mark.parametrize("language", ["de", "ru", "zh", "ja"])
def test_languages(language: str, shared_data: Path) -> None:
    """A quarter cut off the front and an eighth added behind, as the reference file says."""
    scores = json.loads((shared_data / "metric_reference" / "mgsm_corpus.json").read_text())["scores"][
        language
    ]
    with gzip.open(shared_data / "mgsm" / "mgsm.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [row["question"] for line in lines if (row := json.loads(line))["lang"] == language]
    space = "" if language in ("zh", "ja") else " "
    said = []
    for text in texts:
        units = text.split(" ") if space else list(text)
        k = len(units) // 4
        said.append(space.join(units[k:] + units[: k // 2]))
    wanted = [[text] for text in texts]
    found = corpus_bleu(said, wanted, tokenisation=scores["tokenize"])
    assert len(texts) == scores["n"]
    assert found.score == pytest.approx(scores["bleu"], **EXACT)
    assert found.precisions == pytest.approx(scores["precisions"], **EXACT)
    assert found.brevity_penalty == pytest.approx(scores["bp"], **EXACT)
    assert corpus_chrf(said, wanted) == pytest.approx(scores["chrf"], **EXACT)
