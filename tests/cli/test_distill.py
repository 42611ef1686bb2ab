"""`orrery tune` with a recipe of kind distill: a student, new or tuned, nearer to its teacher than before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import orrery as package
from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import read_receipt, verify
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.serve.find import find_model

from .conftest import WORDS, small_recipe, small_text

SMALL = {
    "d_model": 16, "n_layers": 1, "n_heads": 2, "feed_forward": {"kind": "mlp", "d_ff": 32}, "max_positions": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "animals.jsonl"
    said = [" ".join(WORDS[(n + i) % len(WORDS)] for i in range(6)) for n in range(40)]
    write_rows(path, [{"prompt": f"tell me about {n}", "completion": text} for n, text in enumerate(said)])
    return path


def recipe(teacher: Path | str, rows: Path, **changes: Any) -> dict[str, Any]:
    made = {
        "kind": "distill",
        "teacher": str(teacher),
        "data_root": str(rows.parent),
        "data": [{"paths": [rows.name]}],
        "heldout": 0.2,
        "loader": {"context": 48, "rows": 4},
        "loop": {"steps": 6, "precision": "fp32", "optimizer": {"kind": "adamw", "lr": 0.01}},
    }
    student = {} if "base" in changes else {"model": SMALL}
    return made | student | changes


def test_a_student_from_nothing(small_run: Path, rows: Path, tmp_path: Path) -> None:
    made = recipe(
        small_run, rows, mode={"kind": "jsd", "beta": 0.3}, on_policy={"share": 0.5, "max_tokens": 5}
    )
    run = single_stage(made, [], kind="distill", out=tmp_path / "run")
    folder = find_model(run)
    receipt = read_receipt(folder)
    assert receipt.kind == "model" and receipt.operation == "distill" and verify(folder) == []
    assert [(parent.role, parent.operation) for parent in receipt.parents] == [("teacher", "train")]
    effects = receipt.effects
    assert effects["parameters"] < effects["teacher"]["parameters"] and effects["steps"] == 6
    near = effects["nearness"]["animals"]
    assert near["forward_kl"]["after"] < near["forward_kl"]["before"]
    assert effects["heldout"]["animals"] == near["loss"]
    assert {"metrics.jsonl", "samples.jsonl", "events.jsonl"} <= {path.name for path in folder.iterdir()}
    student = package.load(run)
    assert (
        student.config.d_model == 16
        and student.generate([{"role": "user", "content": "tell"}], max_tokens=3).ids
    )
    before = folder.stat().st_mtime_ns
    assert (
        find_model(single_stage(made, [], kind="distill", out=tmp_path / "run")).stat().st_mtime_ns == before
    )


@pytest.mark.parametrize("adapter", [None, {"kind": "lora", "rank": 4}, {"kind": "prompt", "tokens": 2}])
def test_stages_of_a_run_as_student_and_teacher(
    small_run: Path, rows: Path, tmp_path: Path, adapter: dict[str, Any] | None
) -> None:
    """The teacher is tuned first, and the model it began from learns from it."""
    tune = {key: value for key, value in recipe(small_run, rows).items() if key not in ("teacher", "model")}
    tune |= {"kind": "tune", "base": str(small_run), "name": "big"}
    sampled = {"share": 0.3, "max_tokens": 4}
    distill = recipe("big", rows, base=str(small_run), adapter=adapter, sequence_level=sampled)
    out = run_recipe({"name": "two", "stages": [tune, distill]}, [], out=tmp_path / "run")
    receipt = read_receipt(next(out.glob("distill-*/orrery.json")).parent)
    assert receipt.kind == ("model" if adapter is None else "adapter")
    assert [(parent.role, parent.operation) for parent in receipt.parents] == [
        ("model", "train"),
        ("teacher", "tune"),
    ]
    near = receipt.effects["nearness"]["animals"]
    assert 0 < near["forward_kl"]["after"] < near["forward_kl"]["before"]


def test_what_is_refused(small_run: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="give one of them"):
        single_stage(
            recipe(small_run, rows, base=str(small_run), model=SMALL), [], kind="distill", out=tmp_path / "a"
        )
    other = small_recipe(small_text(tmp_path / "text", files=8), tmp_path / "other")
    other["stages"] = other["stages"][:3]
    other["stages"][0]["tokenizer"]["vocab_size"] = 320
    package.run(other)
    with pytest.raises(OrreryError, match="another tokenizer than the student"):
        single_stage(
            recipe(small_run, rows, base=str(tmp_path / "other")), [], kind="distill", out=tmp_path / "b"
        )
    with pytest.raises(OrreryError, match="there is no model at"):
        single_stage(recipe(tmp_path / "none", rows), [], kind="distill", out=tmp_path / "c")


def test_the_log_of_a_student(small_run: Path, rows: Path, tmp_path: Path) -> None:
    made = recipe(small_run, rows, hard=0.5, mode={"kind": "forward-kl", "temperature": 2.0, "top_k": 8})
    folder = find_model(single_stage(made, ["loop.validate_every=3"], kind="distill", out=tmp_path / "run"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all({"loss", "divergence", "cross_entropy"} <= line.keys() for line in lines)
    assert lines[-1]["validation"] < lines[2]["validation"]
