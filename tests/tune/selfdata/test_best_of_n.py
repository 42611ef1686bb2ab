"""What best of N does, by hand and against draws; and what is kept of n answers."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.rewards import LearnedReward, Length, Verifier
from orrery.tune.selfdata.asked import Asked, read_asked
from orrery.tune.selfdata.best_of_n import (
    best_of_n_distribution,
    best_of_n_kl,
    best_of_n_win_rate,
    expected_best,
    kl,
)
from orrery.tune.selfdata.rejection import Best, sample_best
from orrery.tune.selfdata.speaker import Speaker, Speech

from ..conftest import Small
from .scripted import Scripted


def test_the_distribution_of_the_best_is_that_of_listing_all_draws() -> None:
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    reward = torch.tensor([1.0, 0.0, 0.0, -1.0])
    for n in (1, 2, 3):
        listed = torch.zeros(4, dtype=torch.float64)
        for draw in itertools.product(range(4), repeat=n):
            chance = math.prod(float(p[i]) for i in draw)
            best = max(float(reward[i]) for i in draw)
            ties = [i for i in draw if float(reward[i]) == best]
            for i in ties:  # one of the best draws, each as likely
                listed[i] += chance / len(ties)
        assert torch.allclose(best_of_n_distribution(p.log(), reward, n), listed, atol=1e-7)


def test_the_kl_nears_its_formula_as_answers_get_many_and_never_passes_it() -> None:
    for n in (2, 4, 16):
        gaps = []
        for answers in (10, 100, 10_000):
            logprobs = torch.full((answers,), -math.log(answers))
            q = best_of_n_distribution(logprobs, torch.arange(float(answers)), n)
            assert float(q.sum()) == pytest.approx(1)
            gaps.append(best_of_n_kl(n) - kl(q, logprobs))
        assert gaps[0] > gaps[1] > gaps[2] >= 0 and gaps[2] < 1e-4
    assert best_of_n_kl(1) == 0 and best_of_n_kl(4) == pytest.approx(math.log(4) - 0.75)


def test_the_best_of_n_wins_n_of_n_plus_1_against_one_draw() -> None:
    answers = 2000
    logprobs = torch.full((answers,), -math.log(answers))
    q = best_of_n_distribution(logprobs, torch.arange(float(answers)), 3)
    below = torch.arange(answers) / answers + 0.5 / answers
    assert (
        float((q * below).sum())
        == pytest.approx(best_of_n_win_rate(3), abs=1e-3)
        == pytest.approx(0.75, abs=1e-3)
    )


def test_the_expected_best_of_n_is_the_mean_over_all_choices() -> None:
    rewards = [3.0, -1.0, 0.5, 2.0, 2.0]
    for n in (1, 2, 3, 5):
        listed = [max(choice) for choice in itertools.combinations(rewards, n)]
        assert expected_best(rewards, n) == pytest.approx(sum(listed) / len(listed))


def asked(answer: str = "three") -> list[Asked]:
    problem = Problem(row={}, prompt="one plus two", target=answer, score="exact", id="p")
    return [Asked("p", ({"role": "user", "content": "one plus two"},), problem)]


def say(small: Small, *answers: str) -> Speaker:
    return Speaker(Scripted(small.tokenizer, lambda text, i: answers[i]).subject())


def test_verified_answers_are_kept_once_each_and_all_are_accounted_for(small: Small) -> None:
    speaker = say(small, "three", "two", "three", " Three!", "", "THREE", "three " * 14)
    made = sample_best(Best(n=7, most=2), asked(), speaker, Speech(max_tokens=12))
    assert [row["messages"][-1]["content"] for row in made.examples] == ["three", "Three!"]
    assert made.examples[0]["messages"][0] == {"role": "user", "content": "one plus two"}
    account = made.account
    assert account.drawn == 7 and account.kept == 2 and account.balanced
    assert account.filtered == {
        "wrong": 1,
        "said before": 1,
        "empty": 1,
        "more than 2 of a prompt": 1,
        "cut off": 1,
    }
    assert account.numbers["pass_rate"] == pytest.approx(4 / 7) and account.numbers["solved"] == 1.0
    assert account.numbers["kl_bound"] == pytest.approx(math.log(7) - 6 / 7)


def test_too_easy_prompts_can_be_left_out(small: Small) -> None:
    made = sample_best(Best(n=2, too_easy="drop"), asked(), say(small, "three", "three"), Speech())
    assert made.examples == () and made.account.filtered == {"too easy: all answers right": 2}


def test_the_best_by_reward_is_kept_and_makes_a_pair_with_the_worst(small: Small) -> None:
    speaker = say(small, "three and more and more", "three", "two")
    cfg = Best(n=3, keep="best", rewards=(Verifier(), Length(limit=12, buffer=12)), pairs=True)
    made = sample_best(cfg, asked(), speaker, Speech(max_tokens=24))
    assert [row["messages"][-1]["content"] for row in made.examples] == ["three"]
    (pair,) = made.pairs
    assert (pair["chosen"], pair["rejected"]) == ("three", "three and more and more")
    assert made.account.filtered == {"not the best": 2} and made.account.balanced


def test_a_reward_model_ranks_answers_to_prompts_that_nobody_can_check(small: Small) -> None:
    prompts = [Asked("q", ({"role": "user", "content": "say more"},))]
    cfg = Best(n=2, keep="best", rewards=(LearnedReward(),), floor=3.0)
    for longest, kept in (("more or less", 1), ("more", 0)):
        speaker = say(small, "or", longest)
        made = sample_best(
            cfg,
            prompts,
            speaker,
            Speech(),
            learned=lambda talks: [float(len(talk[-1]["content"])) for talk in talks],
        )
        assert len(made.examples) == kept or made.account.numbers["best_reward"] == 4.0
        assert made.account.numbers["best_reward"] == len(longest)
    with pytest.raises(OrreryError, match="no right answer to check against"):
        sample_best(Best(), prompts, say(small, "or"), Speech())


def test_what_is_asked_is_read_from_problems_and_from_any_set_of_examples(tmp_path: Path) -> None:
    from orrery.tune.dataset import SetConfig
    from orrery.tune.rl.problems import ProblemSet

    write_rows(tmp_path / "p.jsonl", [{"question": f"q{i}", "answer": str(i)} for i in range(10)])
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "bye"},
    ]
    write_rows(tmp_path / "s.jsonl", [{"messages": [*turns, {"role": "assistant", "content": "bye"}]}])
    sets, prompts = (ProblemSet(paths=("p.jsonl",)),), (SetConfig(paths=("s.jsonl",)),)
    found = read_asked(sets, prompts, root=tmp_path, heldout=3)
    assert len(found) == 8 and sum(one.problem is None for one in found) == 1
    assert [one.text for one in found if one.problem is None] == ["hello"]
    assert found[:4] == read_asked(sets, prompts, root=tmp_path, heldout=3, limit=4)
    write_rows(tmp_path / "t.jsonl", [{"text": "a plain text"}])
    with pytest.raises(OrreryError, match="asks nothing"):
        read_asked((), (SetConfig(paths=("t.jsonl",)),), root=tmp_path)
