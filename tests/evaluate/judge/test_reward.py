"""The better of two answers by a score: categories, sections, likelihood."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from orrery.evaluate.judge.reward import SECTIONS, AnswerPair, likelihood_scorer, pair_accuracy, read_pairs
from orrery.kit.errors import OrreryError
from orrery.kit.lm import ScoreRequest
from orrery.serve.chat_model import plain_text
from tests.serve.conftest import lm, tokenizer  # noqa: F401


def pair(chosen: str, rejected: str, category: str = "") -> AnswerPair:
    prompt = ({"role": "user", "content": "the cat"},)
    return AnswerPair(prompt=prompt, chosen=chosen, rejected=rejected, category=category)


def lengths(conversations) -> list[float]:
    return [float(len(said[-1]["content"])) for said in conversations]


def test_accuracy_by_hand() -> None:
    """Longer is better: two right, one wrong, one equal (a half): 2.5 of 4."""
    pairs = [pair("long", "x", "p"), pair("long", "xx", "p"), pair("x", "long", "q"), pair("ab", "cd", "q")]
    found = pair_accuracy(pairs, lengths)
    assert found.accuracy.mean == 0.625 and found.unscored == 0
    assert {name: e.mean for name, e in found.categories.items()} == {"p": 1.0, "q": 0.25}
    assert found.sections == {} and math.isnan(found.section_mean)


def test_what_has_no_score_is_unscored() -> None:
    found = pair_accuracy([pair("a", "b"), pair("long", "x")], lambda said: [math.nan, 1.0, 2.0, 1.0])
    assert (found.accuracy.mean, found.accuracy.n, found.unscored) == (1.0, 1, 1)


def test_sections_weigh_as_the_benchmark_does() -> None:
    """Reasoning: mathematics (all wrong, many) counts as much as all code (all right, few)."""
    pairs = (
        [pair("x", "long", "math-prm")] * 9
        + [pair("long", "x", "hep-go")] * 2
        + [pair("long", "x", "hep-js")]
    )
    pairs += [pair("long", "x", "alpacaeval-easy")] * 3 + [pair("x", "long", "mt-bench-med")]
    found = pair_accuracy(pairs, lengths)
    assert found.sections == {"Chat": 0.75, "Reasoning": 0.5} and found.section_mean == 0.625
    assert sum(len(subsets) for subsets in SECTIONS.values()) == 23


@pytest.mark.parametrize("per", ["text", "token", "byte"])
def test_likelihood_is_the_answers_own(lm, per) -> None:  # noqa: F811
    said = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "cat"}]
    head, whole = lm.chat.prompt(said[:1]), lm.chat.render(said).ids
    (found,) = likelihood_scorer(lm, per=per)([said])
    end = next(i for i in range(len(whole), 0, -1) if whole[i - 1] in lm.stop_ids)
    (score,) = lm.score([ScoreRequest(ids=whole[:end], start=len(head))])
    assert end > len(head)
    assert found == pytest.approx(-score.nats / {"text": 1, "token": score.tokens, "byte": score.bytes}[per])


def test_a_base_model_reads_plain_text(lm) -> None:  # noqa: F811
    said = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "cat"}]
    (found,) = likelihood_scorer(lm, chat=False)([said])
    head = lm.prompt_ids(plain_text(said[:1]))
    ids = [*head, *lm.tokenizer.encode(" cat")]
    assert found == pytest.approx(-lm.score([ScoreRequest(ids=ids, start=len(head))])[0].nats)


def test_pairs_in_files(tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        json.dumps({"prompt": "q", "chosen": "a", "rejected": "b", "subset": "hep-go"})
        + '\n{"prompt": "q"}\n'
    )
    with pytest.raises(OrreryError, match="line 2 is no pair: it has no 'chosen'"):
        read_pairs(path)
    pairs = read_pairs(shared_data / "pref_hhh_alignment" / "pairs.jsonl")
    found = pair_accuracy(pairs, lengths)
    assert len(pairs) == 111 and set(found.categories) == {"helpful", "honest", "harmless", "other"}
    assert found.accuracy.n == 111
