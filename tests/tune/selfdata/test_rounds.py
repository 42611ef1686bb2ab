"""Models that learn from their own answers get better round by round, and killed anywhere they go on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.glossary.exhibits._choosing import GENERATED, loop, taught
from orrery.glossary.exhibits._reasoning import HINT, taught_to_reason, write_questions
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows
from orrery.serve.lm import LM
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.selfdata.config import SampleConfig
from orrery.tune.selfdata.rounds import Round, improve

ROWS = ExampleLoaderConfig(context=64, rows=8)


def settings(method: dict[str, Any], **more: Any) -> SampleConfig:
    given = {"problems": [{"generator": GENERATED}], "limit": 40, "speech": {"max_tokens": 8}, **more}
    return resolve(SampleConfig, {"method": method, **given})


def said(cfg: SampleConfig, steps: int, rounds: int, lm: LM, out: Path, **more: Any) -> list[Round]:
    """What each of so many rounds made; nothing is learned from the last one."""
    every = improve(cfg, loop(steps), lm=lm, out=out, root=out, rounds=rounds, loader=ROWS, **more)
    return list(itertools.islice(every, rounds))


def test_the_mean_reward_rises_with_every_round_of_rejection_sampling(tmp_path: Path) -> None:
    cfg = settings({"kind": "best", "n": 4, "most": 1, "pairs": True})
    lm = taught().lm()
    rounds = said(cfg, 8, 3, lm, tmp_path)
    rates = [found.made.account.numbers["mean_reward"] for found in rounds]
    assert rates[0] < 0.6 and rates[0] + 0.2 < rates[1] < rates[2]
    assert all(found.made.account.balanced for found in rounds)
    assert all(row["messages"][1]["content"].isupper() for found in rounds for row in found.made.examples)
    assert all(pair["chosen"].isupper() for pair in rounds[0].made.pairs) and rounds[0].made.pairs
    kept = read_rows(tmp_path / "round-1" / "examples.jsonl")
    assert [row["messages"] for row in kept] == [row["messages"] for row in rounds[1].made.examples]

    again = taught().lm()  # the same command, after everything was lost but the folder
    repeated = said(cfg, 8, 3, again, tmp_path)
    assert [found.made.account.to_dict() for found in repeated] == [r.made.account.to_dict() for r in rounds]
    for one, other in zip(lm.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(OrreryError, match="another model or other settings"):
        said(replace(cfg, seed=1), 8, 1, again, tmp_path)


def test_hinted_reasons_add_what_was_never_solved_and_the_hint_is_not_learned(tmp_path: Path) -> None:
    problems = [{"paths": ["q.jsonl"], "score": "numeric"}]
    speech = {"max_tokens": 24, "temperature": 0.0}
    start = taught_to_reason()
    rates = {}
    for told in (True, False):
        cfg = settings(
            {"kind": "star", "n": 1, "hint": HINT, "rationalise": told}, problems=problems, speech=speech
        )
        out = tmp_path / str(told)
        out.mkdir()
        write_questions(out / "q.jsonl")
        found = said(cfg, 16, 2, start.lm(), out, restart=True)
        rates[told] = [one.made.account.numbers["pass_rate"] for one in found]
        first = found[0].made
        assert first.account.balanced
        asked = [row["messages"][0]["content"] for row in first.examples]
        assert not any("It is" in text for text in asked)
        hard = [text for text in asked if "rows" in text]
        if told:
            assert len(hard) >= 12 and first.account.numbers["rationalised"] > 0.3
            assert all("makes" in row["messages"][1]["content"] for row in first.examples)
        else:
            assert len(hard) <= 4
    assert rates[True][0] == rates[False][0] < 0.5  # the first answers are the same
    assert rates[True][1] > rates[True][0] + 0.2 and rates[True][1] > rates[False][1]
