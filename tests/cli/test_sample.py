"""Stages that make data: reached by `orrery tune` and `orrery run`, read by later stages, killed and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline import sampling
from orrery.cli.pipeline.recipe import find_recipe
from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.pipeline.single import single_stage
from orrery.evaluate.subject import Subject
from orrery.kit.artifact import lineage, read_receipt, verify
from orrery.kit.config import read_yaml
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows, write_rows
from orrery.serve.find import run_stages
from orrery.serve.lm import LM
from orrery.tune.reward import load_reward
from orrery.tune.selfdata.principles import read_constitution

from ..tune.selfdata.scripted import Scripted
from .conftest import Orrery


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    write_rows(
        folder / "p.jsonl", [{"question": f"the cat saw the dog {n}", "answer": "cat"} for n in range(6)]
    )
    return folder


def stage(base: Path, data: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "sample",
        "base": str(base),
        "data_root": str(data),
        "problems": [{"paths": ["p.jsonl"], "score": "contains"}],
        "method": {
            "kind": "best",
            "n": 3,
            "keep": "best",
            "rewards": [{"kind": "length", "buffer": 24}],
            "pairs": True,
        },
        "chat_template": "none",
        "speech": {"max_tokens": 24, "stop": ["e"]},  # the small model hardly ever ends an answer itself
        **changes,
    }


def folder_of(run: Path, kind: str) -> Path:
    return next(folder for name, folder in run_stages(run) if name == kind)


def test_a_model_learns_what_it_was_best_at(small_run: Path, data: Path, tmp_path: Path) -> None:
    learned = {
        "kind": "tune", "base": str(small_run), "data": [{"stage": "sample"}], "heldout": 0.0,
        "loader": {"context": 64, "rows": 2}, "loop": {"steps": 2, "precision": "fp32"},
    }  # fmt: skip
    recipe = {"name": "raft", "stages": [stage(small_run, data), learned]}
    run = run_recipe(recipe, [], out=tmp_path / "run")
    made, model = folder_of(run, "examples"), folder_of(run, "model")
    receipt = read_receipt(made)
    assert receipt.operation == "sample best" and verify(made) == []
    account = json.loads((made / "account.json").read_text())
    assert account["drawn"] == 18 == account["kept"] + sum(account["filtered"].values())
    rows = read_rows(made / "examples.jsonl")
    assert len(rows) == account["kept"] == receipt.effects["examples"]
    assert [message["role"] for message in rows[0]["messages"]] == ["user", "assistant"]
    parents = {parent.role: parent.operation for parent in read_receipt(model).parents}
    assert parents == {"model": "train", "data 0": "sample best"}
    assert read_receipt(model).effects["sets"][0]["name"] == "sample"
    assert {one.operation for one in lineage(model)} >= {"tune", "sample best", "train"}
    before = [(folder, (folder / "orrery.json").stat().st_mtime_ns) for _, folder in run_stages(run)]
    run_recipe(recipe, [], out=run)
    assert before == [(folder, (folder / "orrery.json").stat().st_mtime_ns) for _, folder in run_stages(run)]

    learned["data"] = [{"stage": "nobody"}]
    with pytest.raises(OrreryError, match="neither an earlier stage"):
        run_recipe(recipe, [], out=tmp_path / "other")


def test_a_killed_run_goes_on_from_its_records(
    small_run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = single_stage(stage(small_run, data), [], kind="sample", out=tmp_path / "whole")
    generate = Subject.generate
    asked: list[int] = []

    def dying(self: Subject, requests: Any) -> Iterator[Any]:
        asked.append(len(requests))
        for n, one in enumerate(generate(self, requests)):
            if n == 4 and len(asked) == 1:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(Subject, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        single_stage(stage(small_run, data), [], kind="sample", out=tmp_path / "killed")
    killed = single_stage(stage(small_run, data), [], kind="sample", out=tmp_path / "killed")
    assert asked == [6, 2]
    for name in ("examples.jsonl", "pairs.jsonl", "account.json"):
        one, other = (folder_of(run, "examples") / name for run in (whole, killed))
        assert one.read_bytes() == other.read_bytes() != b""


def test_a_reward_model_says_what_is_best(small_run: Path, data: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"the cat {n}", "chosen": f"the hen {n}", "rejected": f"the dog {n}"} for n in range(6)
    ]
    write_rows(data / "pairs.jsonl", rows)
    judge = {
        "kind": "reward", "base": str(small_run), "data": [{"paths": ["pairs.jsonl"]}], "heldout": 0.0,
        "loader": {"context": 64, "rows": 4}, "loop": {"steps": 2, "precision": "fp32"},
    }  # fmt: skip
    wanted = stage(small_run, data, reward_model="reward")
    wanted["method"] = {
        "kind": "best",
        "n": 3,
        "keep": "best",
        "rewards": [{"kind": "learned"}],
        "pairs": True,
    }
    recipe = {"name": "ranked", "data_root": str(data), "stages": [judge, wanted]}
    run = run_recipe(recipe, [], out=tmp_path / "run")
    made = folder_of(run, "examples")
    assert [parent.role for parent in read_receipt(made).parents] == ["model", "reward"]
    model = load_reward(folder_of(run, "reward"))
    for pair in read_rows(made / "pairs.jsonl"):
        said = [
            [*pair["messages"], {"role": "assistant", "content": pair[side]}]
            for side in ("chosen", "rejected")
        ]
        better, worse = model.score(said).tolist()
        assert better > worse
    assert (
        read_receipt(made).effects["numbers"]["best_reward"]
        > read_receipt(made).effects["numbers"]["mean_reward"]
    )


def test_votes_are_a_stage_and_one_that_keeps_nothing_says_why(
    small_run: Path, data: Path, tmp_path: Path
) -> None:
    votes = stage(
        small_run, data, method={"kind": "self-consistency", "n": 2, "reads": "exact", "agreement": 0.0}
    )
    made = folder_of(single_stage(votes, [], kind="sample", out=tmp_path / "votes"), "examples")
    assert read_receipt(made).operation == "sample self-consistency" and read_rows(made / "examples.jsonl")
    critique = stage(
        small_run, data, method={"kind": "critique", "rounds": 1, "critique": "the cat", "revise": "the dog"}
    )
    critique |= {"problems": [], "prompts": [{"paths": ["p.jsonl"], "format": "question"}]}
    with pytest.raises(
        OrreryError, match=r"kept nothing of 6 drawn \(6 unchanged\)"
    ):  # no room for a second turn
        single_stage(critique, [], kind="sample", out=tmp_path / "critique")


def scripted(
    monkeypatch: pytest.MonkeyPatch, says: Callable[[str, int], str], likes: Callable[[str], float]
) -> None:
    """Somebody with something to say speaks in the small model's place."""
    monkeypatch.setattr(
        sampling,
        "speaking",
        lambda base, chat_template: Scripted(LM.load(base).tokenizer, says, likes).subject(),
    )


def test_the_recipe_of_self_instruct(
    small_run: Path, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = [
        "a poem about rain",
        "three names for a cat",
        "why leaves turn red in autumn",
        "a letter to a late friend",
    ]

    def says(text: str, i: int) -> str:
        if text.endswith("\nTask 9:"):
            return f" Write down {things[len(text) % 4]}.\nTask 10: Tell me {things[(len(text) + 1) % 4]}.\nTask 11:"
        return " good\nInput: it was fun" if text.endswith("Label:") else " (none)\nOutput: red and gold"

    scripted(monkeypatch, says, lambda text: -1.0)
    settings = [
        f"base={small_run}",
        f"data_root={shared_data}",
        "method.instructions=3",
        "method.asks=2",
        "method.rounds=4",
    ]
    made = folder_of(single_stage("self_instruct", settings, kind="sample", out=tmp_path / "run"), "examples")
    rows = read_rows(made / "examples.jsonl")
    assert len(rows) == 3 and read_receipt(made).operation == "sample self-instruct"
    with pytest.raises(OrreryError, match="no file at"):
        single_stage(
            "self_instruct", [*settings, "method.seeds=[gone.jsonl]"], kind="sample", out=tmp_path / "gone"
        )


def test_the_recipe_of_raft(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("first", "second")
    settings = [
        *(f"stages.{name}.base={small_run}" for name in ("first", "first-learned")),
        *(f"stages.{name}.problems.{i}.generator.n=4" for name in names for i in (0, 1)),
        *(f"stages.{name}.{setting}" for name in names for setting in ("chat_template=none", "method.keep=best", "speech.stop=[e]")),
        *(f"stages.{name}.{setting}" for name in names for setting in ("method.too_easy=keep", "speech.max_tokens=24")),
        *(f"stages.{name}-learned.loop.{setting}" for name in names for setting in ("minutes=null", "steps=2")),
        *(f"stages.{name}-learned.loader.{setting}" for name in names for setting in ("context=64", "long=left")), "stages.after.limit=4",
    ]  # fmt: skip
    run = run_recipe("raft", settings, out=tmp_path / "run")
    assert [kind for kind, _ in run_stages(run)] == ["examples", "model", "examples", "model", "scores"]
    made, learned = (folder for _, folder in run_stages(run)[2:4])
    assert [parent.operation for parent in read_receipt(made).parents] == ["tune"]
    assert [parent.operation for parent in read_receipt(learned).parents] == ["tune", "sample best"]


def test_the_recipe_of_a_constitution(
    small_run: Path, tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = {principle.revise for principle in read_constitution().principles}

    def says(text: str, i: int) -> str:
        last = text.rsplit("Question: ", 1)[1].removesuffix("\n\nAnswer:")
        return "the old red hen" if last in mended else ["the cat", "the dog"][i % 2]

    scripted(
        monkeypatch, says, lambda text: -1.0 if text.endswith("A") == ("cat\n</answer_a>" in text) else -2.0
    )
    settings = [
        f"data_root={shared_data}", f"stages.revise.base={small_run}", "stages.revise.limit=4", f"stages.learned.base={small_run}",
        "stages.learned.loader.context=64", "stages.learned.loader.rows=2", "stages.learned.loop.minutes=null", "stages.learned.loop.steps=2", "stages.learned.heldout=0",
        "stages.learned.loader.long=left", f"stages.preferred.base={small_run}", "stages.preferred.loader.context=64",
        "stages.preferred.loop.minutes=null", "stages.preferred.loop.steps=2", "stages.preferred.heldout=0",
    ]  # fmt: skip
    run = run_recipe("constitution", settings, out=tmp_path / "run")
    folders = dict(run_stages(run))
    made, learned = folders["examples"], folders["adapter"]
    examples, pairs = read_rows(made / "examples.jsonl"), read_rows(made / "pairs.jsonl")
    assert [row["messages"][-1]["content"] for row in examples] == ["the old red hen"] * 4
    assert [(pair["chosen"], pair["rejected"]) for pair in pairs] == [("the cat", "the dog")] * 4
    assert len(run_stages(run)) == 3 and read_receipt(learned).parents[1].operation == "sample constitution"

    recipe = read_yaml(find_recipe("constitution"))
    recipe["stages"][1:] = [{
        "kind": "sample", "name": "again", "base": str(small_run), "prompts": [{"stage": "revise"}],
        "method": {"kind": "constitution", "revisions": 1, "compare": "revision", "shown": 0, "least": 0.0, "agree": False},
    }]  # fmt: skip
    again = run_recipe(recipe, settings[:3], out=run)
    assert len(read_rows(run_stages(again)[-1][1] / "examples.jsonl")) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problems": []}, "nothing to ask"),
        ({"method": {"kind": "self-instruct", "seeds": ["x"]}}, "begins with seed tasks"),
        ({"method": {"kind": "best", "rewards": [{"kind": "learned"}]}}, "go together"),
        ({"reward_model": "reward"}, "go together"),
        ({"judge": "gemma-3-270m"}, "only the method 'constitution'"),
        ({"method": {"kind": "star", "hint": "{{ prompt"}}, "template"),
        ({"method": {"kind": "star", "tells": ["("]}}, "no regular expression"),
        ({"method": {"kind": "raft"}}, "raft"),
    ],
)
def test_settings_that_do_not_go_together(
    small_run: Path, data: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(OrreryError, match=message):
        single_stage(stage(small_run, data, **changes), [], kind="sample", out=tmp_path / "run")


def test_a_stage_without_pairs_is_named_to_who_wants_pairs(small_run: Path, tmp_path: Path) -> None:
    from orrery.cli.pipeline.made import PAIRS, located, made_by
    from orrery.tune.dataset import SetConfig

    sets = (SetConfig(paths=("a.jsonl",)), SetConfig(stage="sample"))
    assert made_by(data=sets, replay=sets[:1]) == {"data 1": "sample"}
    with pytest.raises(OrreryError, match=r"wrote no pairs.jsonl"):
        located("data", sets, {"data 1": tmp_path}, PAIRS)
    (tmp_path / PAIRS).write_text("")
    found = located("data", sets, {"data 1": tmp_path}, PAIRS)
    assert found[0] is sets[0] and found[1].paths == (str(tmp_path / PAIRS),) and found[1].called == "sample"
    with pytest.raises(OrreryError, match="only one of them"):
        SetConfig(paths=("a.jsonl",), stage="sample")


@pytest.mark.slow
def test_the_verb(orrery: Orrery, small_run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps(stage(small_run, data)))
    done = orrery("tune", tmp_path / "r.yaml", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (
        "examples.jsonl" in done.stderr
        and "account.json" in done.stderr
        and "kept of 18 drawn" in done.stderr
    )
