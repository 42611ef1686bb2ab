"""Steps: where they end, how files label them, how the model labels them itself, and what judges of steps and outcomes gain."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from orrery.glossary.exhibits._stepping import careless, judge_from, labeller, outcomes_of, problems
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.preference.records import Thumb
from orrery.tune.reward.config import RewardConfig, SelfLabelled
from orrery.tune.reward.items import steps_item
from orrery.tune.reward.labelled import Stepped, read_stepped, stepped
from orrery.tune.reward.model import RewardModel
from orrery.tune.reward.rollouts import Labeller
from orrery.tune.reward.steps import aggregate_steps, joined, step_ends
from orrery.tune.rows import Row

from .start import renderer, subject


def test_where_steps_end() -> None:
    text = "one  \n\n two\nthree "
    ends = step_ends(text, "\n")
    assert [text[:end].rsplit("\n", 1)[-1].strip() for end in ends] == ["one", "two", "three"]
    assert text[ends[0] - 1] == "e" and ends[-1] == len(text.rstrip())
    assert joined(["ab ", "c"], "\n") == ("ab \nc", [2, 5])
    assert step_ends(" \n ", "\n") == []


def test_scores_of_steps_come_to_one() -> None:
    logits = torch.logit(torch.tensor([0.5, 0.8]))
    assert aggregate_steps(logits, "min").item() == pytest.approx(0.5)
    assert aggregate_steps(logits, "product").item() == pytest.approx(0.4)
    assert aggregate_steps(logits, "last").item() == pytest.approx(0.8)
    assert aggregate_steps(logits[:0], "product").item() == 0.0


@pytest.mark.parametrize("separator", ["\n", "\n\n", " "])
def test_a_step_is_judged_at_its_last_id(separator: str) -> None:
    of = subject()
    row = Stepped(
        messages=({"role": "user", "content": "tell me"},), steps=("the old hen", "red", "wälls"), labels=(1.0, 0.0, 0.5), where="here",
    )  # fmt: skip
    item = steps_item(row, renderer(of), RewardConfig(separator=separator))
    (ids,), (places,) = item.ids, item.places
    read = [of.tokenizer.decode(list(ids[: place + 1])) for place in places]
    assert [text.endswith(step) for text, step in zip(read, row.steps, strict=True)] == [True] * 3
    assert item.labels == row.labels


def test_shapes_of_labelled_steps(tmp_path: Path) -> None:
    trl = {"prompt": "2 + 3 * 4 ?", "completions": ["3 * 4 = 12", "2 + 12 = 13"], "labels": [True, False]}
    shepherd = {
        "input": "2 + 3 * 4 ? Step 1: 3 * 4 = 12 ки\nStep 2: 2 + 12 = 13 ки",
        "label": "2 + 3 * 4 ? Step 1: 3 * 4 = 12 +\nStep 2: 2 + 12 = 13 -",
    }
    rated = {
        "question": {"problem": "2 + 3 * 4 ?"},
        "label": {
            "steps": [
                {"completions": [{"text": "no", "rating": -1}, {"text": "3 * 4 = 12", "rating": 1}], "chosen_completion": 1},
                {"completions": [{"text": "2 + 12 = 13", "rating": -1}], "chosen_completion": None},
                {"completions": [{"text": "so 13", "rating": -1}], "chosen_completion": None},
            ]
        },
    }  # fmt: skip
    write_rows(tmp_path / "steps.jsonl", [trl, shepherd, rated])
    found = read_stepped(PreferenceSet(paths=("steps.jsonl",)), tmp_path)
    assert [row.labels for row in found] == [(1.0, 0.0)] * 3
    assert [row.messages[0]["content"] for row in found] == ["2 + 3 * 4 ?"] * 3
    assert found[0].steps == found[2].steps == ("3 * 4 = 12", "2 + 12 = 13")
    assert found[1].steps == ("Step 1: 3 * 4 = 12", "Step 2: 2 + 12 = 13")
    assert len({row.question() for row in found}) == 1
    again = stepped(Row("here", found[0].row()))
    assert again.steps == found[0].steps and again.messages == found[0].messages


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "x", "steps": ["a"], "labels": [True, False]}, "1 steps and 2 labels"),
        ({"prompt": "x", "steps": ["a"], "labels": [3]}, "true or false, or shares"),
        ({"prompt": "x", "steps": ["a"], "labels": ["yes"]}, "no label"),
        ({"prompt": "x", "steps": [" "], "labels": [True]}, "a step is empty"),
        ({"prompt": "x", "completion": "a"}, "no answer with labelled steps"),
        ({"input": "x", "label": "y"}, "no mark"),
    ],
)
def test_rows_that_say_nothing(fields: dict[str, object], said: str) -> None:
    with pytest.raises(OrreryError, match=said):
        stepped(Row("'x.jsonl', line 3", fields))


@functools.cache
def labelled(*, heldout: bool) -> tuple[Stepped, ...]:
    return tuple(labeller(int(heldout)).steps(problems(heldout=heldout)))


def test_rollouts_find_the_steps_that_are_right() -> None:
    """Behind a slip nothing is right any more, and no rollout says so; behind a right step a third of the rollouts come out right."""
    rows = labelled(heldout=False)
    first = [(row.steps[0].isupper(), row.labels[0]) for row in rows if len(row.steps) == 2]
    assert len(first) > 100
    assert all(label == 0 for right, label in first if not right)
    assert sum(label for right, label in first if right) > 0.75 * sum(right for right, _ in first)
    for row in rows:
        right = row.messages[0]["content"].upper().split()
        assert row.labels[-1] == float(list(row.steps) == right)
    again = labeller(0).steps(problems(heldout=False)[:3])
    assert again == list(rows[: len(again)])


def test_a_soft_label_is_the_share_that_came_out_right() -> None:
    start = careless()
    hard = labeller()
    cfg = SelfLabelled(problems=hard.cfg.problems, responses=2, max_tokens=16, rollouts=8, estimate="soft")
    rows = Labeller(lm=start.lm(), cfg=cfg).steps(problems(heldout=False)[:10])
    shares = [row.labels[0] for row in rows if len(row.steps) == 2 and row.steps[0].isupper()]
    assert shares and 0.1 < sum(shares) / len(shares) < 0.7
    assert all(share * 8 == int(share * 8) for share in shares)


def right_by(answers: Sequence[Thumb], choose: RewardModel | None) -> float:
    """The share of questions that are right if the best-scored answer is taken; without a judge, the most frequent one."""
    asked: dict[str, list[Thumb]] = defaultdict(list)
    for one in answers:
        asked[one.messages[0]["content"]].append(one)
    taken = []
    for group in asked.values():
        if choose is None:
            text = Counter(one.answer[0]["content"] for one in group).most_common(1)[0][0]
            taken.append(next(one for one in group if one.answer[0]["content"] == text))
        else:
            scores = choose.score([[*one.messages, *one.answer] for one in group])
            taken.append(group[int(scores.argmax())])
    return sum(one.up for one in taken) / len(taken)


def test_the_best_of_n_by_a_judge_beats_the_majority() -> None:
    """The careless model is most often wrong in the same way, so the majority is wrong; judges of outcomes and of steps choose better."""
    rows, heldout = labelled(heldout=False), labelled(heldout=True)
    answers = labeller(7, responses=16).verdicts(problems(heldout=True))
    steps, process = judge_from(rows, heldout, "process")
    ends, outcome = judge_from(outcomes_of(rows), outcomes_of(heldout), "outcome")
    assert process.after is not None and process.after.accuracy.low > 0.7 and process.after.auc > 0.8
    assert outcome.after is not None and outcome.after.nll < 0.7
    majority, by_ends, by_steps = (right_by(answers, one) for one in (None, ends, steps))
    assert by_ends > majority and by_steps > majority + 0.3
    each = steps.score_steps([[*answers[0].messages, *answers[0].answer]])[0]
    assert float(steps.score([[*answers[0].messages, *answers[0].answer]])) == pytest.approx(
        float(each.min())
    )
