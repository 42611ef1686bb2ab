"""`orrery tune` with a recipe of kind reward: a judge of answers from the command line, in a run, and in reinforcement learning."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline.runner import run_recipe, stage_folder
from orrery.cli.pipeline.single import single_stage
from orrery.glossary.exhibits._stepping import careless, problems
from orrery.kit.artifact import read_receipt, verify
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows, write_rows
from orrery.model.folder import save_model
from orrery.tune.reward import RewardEnsemble, RewardModel, load_reward

from .conftest import WORDS, Orrery

LOOP = {
    "steps": 30, "precision": "fp32", "optimizer": {"kind": "adamw", "lr": 3e-3, "weight_decay": 0.0}, "schedule": {"kind": "constant"},
    "validate_every": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The better answer speaks of the hen, the worse one of the dog."""
    rng, path = random.Random(1), tmp_path_factory.mktemp("pairs") / "pairs.jsonl"

    def said(word: str) -> str:
        words = [w for w in rng.sample(WORDS, 4) if w not in ("hen", "dog")]
        words.insert(rng.randint(0, len(words)), word)
        return " ".join(words)

    rows = [
        {"prompt": f"the {rng.choice(WORDS)} {n}", "chosen": said("hen"), "rejected": said("dog"), "subset": ("a", "b")[n % 2]}
        for n in range(80)
    ]  # fmt: skip
    write_rows(path, rows)
    return path


def recipe(base: Path, pairs: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "reward",
        "base": str(base),
        "data": [{"paths": [pairs.name]}],
        "data_root": str(pairs.parent),
        "heldout": 0.3,
        "loader": {"context": 64, "rows": 8},
        **changes,
        "loop": LOOP | changes.get("loop", {}),
    }


def test_a_judge_of_answers(
    small_run: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run = single_stage(recipe(small_run, pairs), [], kind="reward", out=out)
    folder = stage_folder(run, "reward")
    receipt = read_receipt(folder)
    assert receipt.kind == receipt.operation == "reward" and verify(folder) == []
    assert [(parent.role, parent.operation) for parent in receipt.parents] == [("model", "train")]
    found = receipt.effects
    rows = found["rows"]
    assert rows["learned"] + rows["heldout"] == 80 and rows["left_out"] == 0
    assert found["after"]["accuracy"]["low"] > 0.6 and found["after"]["nll"] < found["before"]["nll"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] and {"accuracy", "margin", "validation"} <= lines[-1].keys()
    model = load_reward(run)
    assert isinstance(model, RewardModel) and model.level == "pair"
    asked = [{"role": "user", "content": "the cat"}]
    better, worse = model.score(
        [[*asked, {"role": "assistant", "content": f"the {w}"}] for w in ("hen", "dog")]
    )
    assert better > worse
    assert "held-out pairs" in capsys.readouterr().err
    again = single_stage(recipe(small_run, pairs), [], kind="reward", out=out)
    assert stage_folder(again, "reward") == folder
    assert len(list(out.glob("reward-*/orrery.json"))) == 1


@pytest.mark.parametrize("adapter", [{"kind": "lora", "rank": 4}, {"kind": "prompt", "tokens": 2}])
def test_beside_a_frozen_model(small_run: Path, pairs: Path, tmp_path: Path, adapter: dict[str, Any]) -> None:
    made = recipe(small_run, pairs, adapter=adapter, loop={"steps": 3})
    run = single_stage(made, [], kind="reward", out=tmp_path / "run")
    receipt = read_receipt(stage_folder(run, "reward"))
    assert receipt.effects["trained"] < receipt.effects["parameters"] / 4
    model = load_reward(run)
    assert isinstance(model, RewardModel)
    said = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "the hen"}]
    assert model.score([said]).isfinite().all()


def test_an_ensemble(small_run: Path, pairs: Path, tmp_path: Path) -> None:
    made = recipe(
        small_run,
        pairs,
        reward={"members": 2, "combine": "pessimist"},
        loop={"steps": 3},
        adapter={"kind": "lora", "rank": 2},
    )
    run = single_stage(made, [], kind="reward", out=tmp_path / "run")
    effects = read_receipt(stage_folder(run, "reward")).effects
    assert len(effects["members"]) == 2
    model = load_reward(run)
    assert isinstance(model, RewardEnsemble)
    said = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "the hen"}]
    one, two = (float(member.score([said])) for member in model.members)
    assert one != two
    assert float(model.score([said])) == pytest.approx((one + two) / 2 - abs(one - two) / 2, abs=1e-6)


def test_verdicts_and_steps_from_files(small_run: Path, tmp_path: Path) -> None:
    answers, steps = tmp_path / "answers.jsonl", tmp_path / "steps.jsonl"
    write_rows(
        answers,
        [
            {"prompt": f"{n}", "completion": f"the {'hen' if n % 2 else 'dog'} {n}", "label": bool(n % 2)}
            for n in range(24)
        ],
    )
    rows = [
        {"prompt": f"say {n}", "steps": ["the hen sat", f"the {'hen' if n % 2 else 'dog'} ran", "the end"],
         "labels": [True, bool(n % 2), bool(n % 2)]}
        for n in range(24)
    ]  # fmt: skip
    write_rows(steps, rows)
    outcome = single_stage(
        recipe(small_run, answers, level="outcome"), [], kind="reward", out=tmp_path / "outcome"
    )
    found = read_receipt(stage_folder(outcome, "reward")).effects["after"]
    assert found["accuracy"]["n"] > 2 and found["auc"] > 0.6
    process = single_stage(
        recipe(small_run, steps, level="process"), [], kind="reward", out=tmp_path / "process"
    )
    found = read_receipt(stage_folder(process, "reward")).effects["after"]
    assert found["accuracy"]["mean"] > 0.6
    model = load_reward(process)
    assert isinstance(model, RewardModel)
    said = [
        {"role": "user", "content": "say 3"},
        {"role": "assistant", "content": "the hen sat\nthe dog ran\nthe end"},
    ]
    silent = [said[0], {"role": "assistant", "content": " "}]
    assert model.score([silent, said]).isnan().tolist() == [True, False]
    (each,) = model.score_steps([said])
    assert each.shape == (3,) and float(model.score([said])) == pytest.approx(float(each.min()))


@pytest.fixture(scope="module")
def careless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes two words, a line each, some of them in capitals."""
    start, folder = careless(40), tmp_path_factory.mktemp("careless") / "model"
    assert start.chat is not None
    folder.mkdir()
    save_model(start.model, folder, bos_id=start.tokenizer.bos_id, eos_id=list(start.chat.stop_ids))
    start.tokenizer.save(folder)
    start.chat.save(folder)
    return folder


@pytest.mark.parametrize("level", ["outcome", "process"])
def test_labels_that_the_model_makes_itself(careless_model: Path, tmp_path: Path, level: str) -> None:
    asked = [problem.row for problem in problems(heldout=False)][:8]
    write_rows(tmp_path / "words.jsonl", list(asked))
    made = recipe(careless_model, tmp_path / "words.jsonl", level=level, loop={"steps": 2}, heldout=0.2)
    del made["data"]
    made["labelled"] = {
        "problems": [{"paths": ["words.jsonl"]}], "responses": 2, "max_tokens": 12, "rollouts": 2, "estimate": "soft",
    }  # fmt: skip
    run = single_stage(made, [], kind="reward", out=tmp_path / "run")
    folder = stage_folder(run, "reward")
    rows = list(read_rows(folder / "labelled.jsonl"))
    assert 8 <= len(rows) <= 16 and read_receipt(folder).effects["rows"]["learned"] < len(rows)
    if level == "outcome":
        assert {row["label"] for row in rows} <= {True, False}
        return
    answers = {row["question"]: row["answer"] for row in asked}
    assert all(len(row["steps"]) == len(row["labels"]) for row in rows)
    assert any(len(row["steps"]) == 2 for row in rows)
    right = ["\n".join(row["steps"]) == answers[row["messages"][0]["content"]] for row in rows]
    assert [row["labels"][-1] for row in rows] == [float(one) for one in right]


def test_practice_for_a_learned_reward(small_run: Path, pairs: Path, tmp_path: Path) -> None:
    """Three stages in one run: the base, its judge, and practice that nothing but the judge rewards, on questions without answers."""
    questions = pairs.parent / "questions.jsonl"
    write_rows(questions, [{"question": f"the {word} {n}"} for n, word in enumerate(WORDS)])
    judge = recipe(small_run, pairs)
    practice = {
        "kind": "rl", "base": str(small_run), "reward_model": "reward", "data_root": str(pairs.parent),
        "rl": {
            "problems": [{"paths": ["questions.jsonl"], "score": ""}], "heldout": 0, "rewards": [{"kind": "learned"}],
            "rollout": {"prompts": 2, "responses": 4, "max_tokens": 4},
        },
        "loop": {"steps": 2, "precision": "fp32"},
    }  # fmt: skip
    out = run_recipe({"name": "rlhf", "stages": [judge, practice]}, [], out=tmp_path / "run")
    lines = [
        json.loads(line) for line in (stage_folder(out, "model") / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(line["reward"] != 0 for line in lines)
    parents = read_receipt(stage_folder(out, "model")).parents
    assert {(parent.role, parent.operation) for parent in parents} == {
        ("model", "train"),
        ("reward", "reward"),
    }
    with pytest.raises(OrreryError, match="a learned reward needs both"):
        single_stage({**practice, "reward_model": ""}, [], kind="rl", out=tmp_path / "other")


def test_settings_that_do_not_go_together(small_run: Path, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="either 'data' or 'labelled'"):
        single_stage(recipe(small_run, pairs, data=[]), [], kind="reward", out=tmp_path)
    with pytest.raises(OrreryError, match="longer than the model's context"):
        single_stage(recipe(small_run, pairs, loader={"context": 9999}), [], kind="reward", out=tmp_path)
    with pytest.raises(OrreryError, match="no answer with labelled steps"):
        single_stage(recipe(small_run, pairs, level="process"), [], kind="reward", out=tmp_path)


@pytest.mark.slow
def test_the_verb_and_pair_accuracy(orrery: Orrery, small_run: Path, pairs: Path, tmp_path: Path) -> None:
    done = orrery(
        "tune", "recipes/reward.yaml", f"base={small_run}", f"data=[{{paths: [{pairs}]}}]", "heldout=0.3", "loader.context=64",
        "loader.rows=8", "loop.minutes=null", "loop.steps=30", "loop.optimizer.lr=0.003", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held-out pairs" in done.stderr and "wrote the reward model" in done.stderr
    judged = orrery("eval", "pairs", tmp_path / "run", pairs, "--json")
    assert judged.returncode == 0, judged.stderr
    told = json.loads(judged.stdout)
    assert set(told["calibration"]) == {"ece", "brier"} and told["calibration"]["brier"] < 0.25
    assert told["accuracy"]["mean"] > 0.8 and set(told["categories"]) == {"a", "b"}
