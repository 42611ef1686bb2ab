"""A run end to end: every artifact, what is kept, what is made anew, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import orrery as package
from orrery.kit.artifact import lineage, read_receipt, verify
from orrery.kit.errors import OrreryError

from .conftest import small_recipe, small_text


def stages(run: Path) -> dict[str, str]:
    return {entry["name"]: entry["folder"] for entry in json.loads((run / "run.json").read_text())["stages"]}


def test_every_stage_leaves_a_whole_artifact(small_run) -> None:
    folders = stages(small_run)
    assert list(folders) == ["tokenizer", "data", "train", "evaluate", "generate"]
    for folder in folders.values():
        assert verify(small_run / folder) == []
    chain = [(a.depth, a.role, a.state) for a in lineage(small_run / folders["train"])]
    assert chain == [(0, "", "here"), (1, "data", "here"), (2, "tokenizer", "here")]


def test_the_report_says_what_was_measured(small_run) -> None:
    page, text = (small_run / "report.html").read_text(), (small_run / "report.md").read_text()
    rows = json.loads((small_run / stages(small_run)["evaluate"] / "evaluation.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["model", "ngram", "ngram", "compressor"]
    for row in rows:
        assert f"{row['bits_per_byte']:.3f}" in page
        assert f"{row['bits_per_byte']:.3f}" in text
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http-equiv", "")


def test_the_same_recipe_keeps_everything_and_a_change_repeats_what_follows(small_run, tmp_path) -> None:
    recipe = json.loads((small_run / "run.json").read_text())["recipe"]
    before = stages(small_run)
    times = {name: (small_run / folder).stat().st_mtime_ns for name, folder in before.items()}
    package.run(recipe)
    assert stages(small_run) == before
    assert times == {name: (small_run / folder).stat().st_mtime_ns for name, folder in before.items()}
    package.run(recipe, ["stages.generate.max_tokens=4"])
    after = stages(small_run)
    assert {name for name in before if after[name] != before[name]} == {"generate"}
    package.run(recipe, ["stages.evaluate.orders=[1]"])
    after = stages(small_run)
    assert {name for name in before if after[name] != before[name]} == {"evaluate"}
    package.run(recipe)


def test_load_and_the_public_face(small_run) -> None:
    lm = package.load(small_run)
    ids = lm.tokenizer.encode("the cat sat")
    logits = lm.logits(ids)
    assert logits.shape == (len(ids), lm.config.vocab_size)
    score = lm.score("the cat sat on a mat")
    assert score.tokens > 0 and score.bytes == 20 and score.nats > 0
    one = lm.generate("the cat", max_tokens=6, temperature=1.0, seed=3)
    two = lm.generate(lm.tokenizer.encode("the cat", bos=True), max_tokens=6, temperature=1.0, seed=3)
    assert one.ids == two.ids and one.text == two.text and len(one.logprobs) == len(one.ids)


def test_transformers_opens_what_we_train(small_run) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is a test extra")
    import torch

    folder = small_run / stages(small_run)["train"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ours = package.load(folder)
    ids = ours.tokenizer.encode("the old red hen saw the dog")
    assert tokenizer.encode("the old red hen saw the dog", add_special_tokens=False) == ids
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].float()
    torch.testing.assert_close(ours.logits(ids), expected, atol=1e-5, rtol=1e-5)


def test_verbs_on_a_run(orrery, small_run, tmp_path) -> None:
    said = orrery("generate", small_run, "--prompt", "the cat", "--max-tokens", "5", "--json")
    assert said.returncode == 0, said.stderr
    assert len(json.loads(said.stdout)["ids"]) <= 5
    plain = orrery("generate", small_run, "--prompt", "the cat", "--max-tokens", "5", "--temperature", "0")
    beams = orrery(
        "generate",
        small_run,
        "--prompt",
        "the cat",
        "--max-tokens",
        "5",
        "--temperature",
        "0",
        "--beams",
        "2",
    )
    assert plain.stdout.startswith("the cat") and beams.stdout.startswith("the cat")
    (tmp_path / "a.txt").write_text("the cat sat on a mat")
    scored = json.loads(orrery("score", small_run, tmp_path / "a.txt", "--json").stdout)
    assert scored[0]["bytes"] == 20 and scored[0]["bits_per_byte"] > 0
    tree = json.loads(orrery("lineage", small_run, "--json", "--step", "3").stdout)
    assert next(item["operation"] for item in tree["lineage"]) == "train"
    assert tree["documents"] and tree["documents"][0]["path"].endswith(".txt")
    report = json.loads(
        orrery("tokenizer", "report", small_run, "--text", tmp_path / "a.txt", "--json").stdout
    )
    assert "a.txt" in json.dumps(report)
    cut = json.loads(orrery("tokenizer", "encode", small_run, "the cat", "--json").stdout)
    assert orrery("tokenizer", "decode", small_run, *map(str, cut["ids"])).stdout.strip() == "the cat"
    talk = orrery("chat", small_run, "--max-tokens", "4", input="hello\n/reset\nagain\n/quit\n")
    assert talk.returncode == 0, talk.stderr


def test_two_runs_in_one_folder_are_refused(small_run) -> None:
    from orrery.cli.pipeline.runner import locked

    recipe = json.loads((small_run / "run.json").read_text())["recipe"]
    with locked(small_run), pytest.raises(OrreryError, match="another orrery process"):
        package.run(recipe)


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-c", "from orrery.cli import main; main()", "run", str(recipe)]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_stopped_anywhere_goes_on_and_ends_the_same(tmp_path, how: signal.Signals) -> None:
    """Stopped at several moments, the run ends with the very model of a run that was never stopped."""
    text = small_text(tmp_path / "text", files=60)
    ids = []
    for name, stops in (("whole", []), ("stopped", [2.0, 3.5, 4.5, 5.5])):
        data = small_recipe(text, tmp_path / name, steps=60)
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(data))
        for seconds in stops:
            child = subprocess.Popen(command(path), stderr=subprocess.PIPE, text=True)
            time.sleep(seconds)
            child.send_signal(how)
            _, said = child.communicate(timeout=60)
            assert "Traceback" not in said
        done = subprocess.run(command(path), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        ids.append(
            read_receipt(tmp_path / name / stages(tmp_path / name)["train"]).files["model.safetensors"][
                "sha256"
            ]
        )
        assert not [p for p in os.listdir(tmp_path / name) if p.endswith(".partial")]
    assert ids[0] == ids[1]
