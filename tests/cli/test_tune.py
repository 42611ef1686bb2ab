"""`orrery tune`: from a finished model to one that learned more, whole or as an adapter; stopped anywhere, it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import orrery as package
from orrery.cli.pipeline.runner import run_recipe, stage_folder
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import lineage, read_receipt, verify
from orrery.kit.errors import OrreryError
from orrery.kit.files import sha256_file
from orrery.serve.adapters import Adapters
from orrery.serve.find import find_model
from orrery.serve.lm import LM

from .conftest import Orrery, small_text

ASKED = [{"role": "user", "content": "the cat saw the dog 3"}]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions that always get one answer."""
    path = tmp_path_factory.mktemp("data") / "answers.jsonl"
    rows = [{"prompt": f"the cat saw the dog {n}", "completion": "the hen ran"} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def recipe(base: Path, data: Path, **changes: Any) -> dict[str, Any]:
    loop = {
        "steps": 12, "optimizer": {"kind": "adamw", "lr": 2e-2, "weight_decay": 0.0}, "precision": "fp32", "validate_every": 6,
        "sample_every": 6, "checkpoint": {"every_steps": 4, "every_seconds": None},
    }  # fmt: skip
    return {
        "kind": "tune",
        "base": str(base),
        "data": [{"paths": [str(data)]}],
        "loader": {"context": 64, "rows": 4},
        "sample_tokens": 4,
        **changes,
        "loop": loop | changes.get("loop", {}),
    }


@pytest.fixture(scope="module")
def tuned(small_run: Path, answers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "run"
    return single_stage(recipe(small_run, answers, loop={"steps": 40}, neftune=5.0), [], kind="tune", out=out)


@pytest.fixture(scope="module")
def adapted(small_run: Path, answers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "run"
    made = recipe(
        small_run,
        answers,
        adapter={"kind": "lora", "rank": 8},
        loop={"steps": 20},
    )
    return single_stage(made, [], kind="tune", out=out)


def test_a_tuned_model_answers_as_it_was_taught(tuned: Path) -> None:
    lm = package.load(tuned)
    assert lm.generate(ASKED, max_tokens=12, temperature=0).text == "the hen ran"


def test_the_receipt_says_what_tuning_did(tuned: Path, small_run: Path) -> None:
    folder = find_model(tuned)
    receipt = read_receipt(folder)
    assert receipt.kind == "model" and receipt.operation == "tune" and verify(folder) == []
    assert [(p.role, p.operation) for p in receipt.parents] == [("model", "train")]
    assert {ancestor.state for ancestor in lineage(folder)} == {"here"}
    effects = receipt.effects
    lm = LM.load(small_run)
    assert lm.chat is not None
    answer = [{"role": "assistant", "content": "the hen ran"}]
    learned = sum(lm.chat.render([*ASKED, *answer]).assistant_mask)
    (part,) = effects["sets"]
    assert effects["supervised"] == part["supervised"] == learned * part["examples"] > 0
    heldout = effects["heldout"]["answers"]
    assert heldout["after"] < 0.5 < heldout["before"] and effects["kl_to_parent"] > 0.1
    assert (
        effects["trained"] == effects["parameters"] and effects["lengths"]["answers"]["lost_supervised"] == 0
    )
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert (
        len(samples) >= 2
        and "the cat saw the dog" in samples[-1]["text"]
        and "the hen" in samples[-1]["text"]
    )


def test_an_adapter_is_opened_with_its_model(adapted: Path, small_run: Path) -> None:
    folder = find_model(adapted)
    assert read_receipt(folder).kind == "adapter" and (folder / "adapter_config.json").is_file()
    said = package.load(adapted).generate(ASKED, max_tokens=12, temperature=0).text
    beside = LM.load(small_run)
    plain = beside.generate(ASKED, max_tokens=12, temperature=0).text
    Adapters.of(beside.model).load("mine", folder)
    assert beside.generate(ASKED, max_tokens=12, temperature=0).text == plain != said
    Adapters.of(beside.model).use_by_default("mine")
    assert beside.generate(ASKED, max_tokens=12, temperature=0).text == said
    effects = read_receipt(folder).effects
    assert (
        effects["heldout"]["answers"]["after"] < effects["heldout"]["answers"]["before"]
        and effects["kl_to_parent"] > 0
    )
    assert effects["trained"] < effects["parameters"] / 2 and "weights learn" in effects["share"]


def test_an_adapters_checkpoint_holds_no_copy_of_the_model(adapted: Path) -> None:
    work = find_model(adapted).with_name(find_model(adapted).name + ".work")
    held = sum(file.stat().st_size for file in work.rglob("model.safetensors"))
    newest = max((work / "checkpoints").iterdir())
    trained = read_receipt(find_model(adapted)).effects["trained"]
    assert 0 < (newest / "model.safetensors").stat().st_size < 4 * trained + 8192 and held


@pytest.mark.filterwarnings("ignore")
def test_peft_opens_the_adapter(adapted: Path, small_run: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = find_model(small_run)
    theirs = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base), find_model(adapted)
    )
    ids = list(range(5, 25))
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(package.load(adapted).logits(ids), wanted, rtol=0, atol=2e-5)


def test_an_adapter_whose_model_is_gone_or_other_is_refused(adapted: Path, tmp_path: Path) -> None:
    import shutil

    lone = tmp_path / "lone"
    shutil.copytree(find_model(adapted), lone)
    with pytest.raises(OrreryError, match="there is no model at"):
        package.load(lone)
    (lone / "orrery.json").unlink()
    with pytest.raises(OrreryError, match="an adapter without a receipt that names its model"):
        package.load(lone)


def test_what_was_learned_before_is_measured_and_replayed(tuned: Path, answers: Path, tmp_path: Path) -> None:
    """A second task on top of the first, once with the old examples watched only, once with a share of them."""
    new = tmp_path / "new.jsonl"
    rows = [{"prompt": f"the cat saw the dog {n}", "completion": "a green mat"} for n in range(60)]
    new.write_text("".join(json.dumps(row) + "\n" for row in rows))
    old = {"paths": [str(answers)], "name": "old"}
    plain = single_stage(
        recipe(tuned, new, watch=[old], loop={"steps": 24}), [], kind="tune", out=tmp_path / "plain"
    )
    mixed = single_stage(
        recipe(tuned, new, replay=[old], replay_share=0.5, loop={"steps": 24}),
        [],
        kind="tune",
        out=tmp_path / "mixed",
    )
    without, with_replay = (read_receipt(find_model(run)).effects for run in (plain, mixed))
    assert without["heldout"]["old"]["after"] > without["heldout"]["old"]["before"] + 1
    assert with_replay["heldout"]["old"]["after"] < without["heldout"]["old"]["after"]
    assert [(part["name"], part["wanted"]) for part in with_replay["sets"]] == [("new", 0.5), ("old", 0.5)]


def test_texts_a_longer_context_and_new_tokens(small_run: Path, tmp_path: Path) -> None:
    """Domain-adaptive pre-training through the same stage."""
    made = recipe(
        small_run, small_text(tmp_path / "text", files=6), longer_context={"max_positions": 128, "scaling": "yarn"},
        new_tokens={"names": ["<|note|>"]}, loader={"context": 128, "rows": 2, "long": "split"},
    )  # fmt: skip
    made["data"][0]["format"] = "text"
    run = single_stage(made, [], kind="tune", out=tmp_path / "run")
    receipt, lm = read_receipt(find_model(run)), package.load(run)
    assert [entry["operation"] for entry in receipt.surgery] == ["longer context", "new tokens"]
    assert lm.context == 128 and "<|note|>" in lm.tokenizer.special and lm.chat is not None
    heldout = receipt.effects["heldout"]["text"]
    assert heldout["after"] < heldout["before"] and receipt.effects["fill"] > 0.5
    assert lm.generate("the cat", max_tokens=4).ids


def test_settings_that_do_not_go_together(small_run: Path, answers: Path, tmp_path: Path) -> None:
    def refused(message: str, **changes: Any) -> None:
        with pytest.raises(OrreryError, match=message):
            single_stage(recipe(small_run, answers, **changes), [], kind="tune", out=tmp_path / "run")

    refused("longer than the model's context of 64", loader={"context": 65, "rows": 1})
    refused("tokens do not fit into a row of 8", loader={"context": 8, "rows": 1})
    refused(
        "new_tokens and longer_context need all weights",
        adapter={"kind": "lora"},
        new_tokens={"names": ["<|x|>"]},
    )
    refused("it goes with an adapter", blocks=True)
    refused("two sets of examples are called 'answers'", replay=[{"paths": [str(answers)]}])
    with pytest.raises(OrreryError, match="needs 'paths' or a 'generator' or a 'stage'"):
        single_stage(
            {**recipe(small_run, answers), "data": [{"name": "none"}]}, [], kind="tune", out=tmp_path / "run"
        )


def test_a_stage_of_a_longer_run_and_kept_when_nothing_changed(
    small_run: Path, answers: Path, tmp_path: Path
) -> None:
    first = {
        **recipe(small_run, answers, adapter={"kind": "lora", "rank": 4}, loop={"steps": 3}),
        "name": "first",
    }
    second = {**recipe(tmp_path, answers, loop={"steps": 3}), "name": "second", "base": "first"}
    stages = {"name": "two", "out": str(tmp_path / "two"), "stages": [first, second]}
    out = run_recipe(stages, [])
    made = stage_folder(out, "model")
    before = made.stat().st_mtime_ns
    assert read_receipt(made).parents[0].operation == "tune"  # an adapter as the base: merged first
    run_recipe(stages, [])
    assert stage_folder(out, "model").stat().st_mtime_ns == before
    data = tmp_path / "answers.jsonl"
    data.write_text(answers.read_text())
    run_recipe({**stages, "stages": [{**first, "data": [{"paths": [str(data)]}]}]}, [])
    assert len(list((tmp_path / "two").glob("first-*/orrery.json"))) == 2


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(
    small_run: Path, answers: Path, tmp_path: Path
) -> None:
    for adapter in (None, {"kind": "lora", "rank": 4, "dropout": 0.1}):
        made = recipe(
            small_run,
            answers,
            adapter=adapter,
            neftune=5.0,
            loop={"steps": 60, "checkpoint": {"every_steps": 3, "every_seconds": None}},
        )
        name = "adapter_model.safetensors" if adapter else "model.safetensors"
        whole = find_model(single_stage(made, [], kind="tune", out=tmp_path / f"whole-{name}"))
        out, file = tmp_path / f"killed-{name}", tmp_path / f"{name}.json"
        file.write_text(json.dumps(made))
        code = f"import json, torch; torch.set_num_threads(1); from orrery.cli.pipeline.single import single_stage; single_stage(json.load(open({str(file)!r})), [], kind='tune', out={str(out)!r})"
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 240
        while not list(out.glob("tune-*.work/checkpoints/[0-9s]*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
        from orrery.cli.pipeline.single import single_stage as again

        resumed = find_model(again(made, [], kind="tune", out=out))
        assert sha256_file(resumed / name) == sha256_file(whole / name)


@pytest.mark.slow
def test_the_verb(orrery: Orrery, small_run: Path, answers: Path, tmp_path: Path) -> None:
    done = orrery(
        "tune",
        "--base",
        small_run,
        "--data",
        answers,
        "--adapter",
        "lora",
        "--epochs",
        "1",
        "--out",
        tmp_path / "run",
    )
    assert done.returncode == 0, done.stderr
    assert "wrote the adapter" in done.stderr and "orrery chat" in done.stderr
    chat = orrery("chat", tmp_path / "run", "--max-tokens", "4", input="the cat\n")
    assert chat.returncode == 0, chat.stderr
    both = orrery("tune", "recipes/sft.yaml", "--base", small_run)
    assert both.returncode == 1 and "give a recipe, or --base and --data" in both.stderr
    none = orrery("tune", "--base", small_run)
    assert none.returncode == 1 and "nothing to learn from" in none.stderr
