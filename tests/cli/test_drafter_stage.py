"""`orrery train` with a recipe of kind `drafter`: from a finished run to a drafter that the engine's config can name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import lineage, read_receipt, verify
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.drafters import Medusa
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Drafting, make_drafter
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.open import find_drafter, open_drafter


def recipe(run: Path, **objective: Any) -> dict[str, Any]:
    return {
        "kind": "drafter",
        "base": str(run),
        "data": str(run),
        "loader": {"context": 64, "rows": 4},
        "loop": {"steps": 6, "objective": objective, "validate_every": 3, "sample_every": None},
    }


@pytest.fixture(scope="module")
def medusa_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = recipe(small_run, kind="medusa", net={"heads": 2})
    return single_stage(made, [], kind=("train", "drafter"), out=tmp_path_factory.mktemp("drafter") / "run")


def test_the_receipt_says_what_it_is_for_and_what_it_gains(medusa_run: Path) -> None:
    folder = find_drafter(medusa_run)
    receipt = read_receipt(folder)
    assert receipt.kind == "drafter" and verify(folder) == []
    assert [(parent.role, parent.operation) for parent in receipt.parents] == [
        ("model", "train"),
        ("data", "prepare"),
    ]
    assert {a.state for a in lineage(folder)} == {"here"}
    effects = receipt.effects
    assert effects["kind"] == "medusa" and effects["steps"] == 6 and effects["validation"] > 0
    assert effects["mean_accepted_length"] >= 1 <= effects["untrained_length"]
    assert all(0 <= rate <= 1 for rate in effects["acceptance"])
    assert (folder / "metrics.jsonl").is_file()


def test_it_drafts_for_its_model(medusa_run: Path, small_run: Path) -> None:
    lm = LM.load(small_run)
    assert float(open_drafter(medusa_run, lm, Medusa).accuracy.sum(1).max()) <= 1
    drafter = make_drafter(resolve(Drafting, {"kind": "medusa", "path": str(medusa_run)}), lm)
    request = GenerateRequest(ids=[5, 6, 7], max_tokens=20, sampling=Sampling(temperature=0), ignore_eos=True)
    assert speculative_generate(lm, request, drafter).ids == lm.generate([request])[0].ids


def test_a_finished_stage_is_kept(medusa_run: Path, small_run: Path) -> None:
    before = find_drafter(medusa_run).stat().st_mtime_ns
    single_stage(
        recipe(small_run, kind="medusa", net={"heads": 2}), [], kind=("train", "drafter"), out=medusa_run
    )
    assert find_drafter(medusa_run).stat().st_mtime_ns == before


def test_a_drafter_is_a_stage_of_a_longer_run_too(small_run: Path, tmp_path: Path) -> None:
    stage = recipe(small_run, kind="semi", net={"block": 2})
    out = run_recipe(
        {"name": "two", "out": str(tmp_path / "two"), "stages": [{**stage, "name": "guesses"}]}, []
    )
    assert find_drafter(out).name.startswith("guesses-")


def test_what_does_not_fit_is_refused(small_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(OrreryError, match="cannot be trained on the objective 'causal-lm'"):
        single_stage(recipe(small_run, kind="causal-lm"), [], kind=("train", "drafter"), out=out)
    with pytest.raises(OrreryError, match="longer than the model's context of 64"):
        long = recipe(small_run, kind="eagle") | {"loader": {"context": 128, "rows": 2}}
        single_stage(long, [], kind=("train", "drafter"), out=out)
    with pytest.raises(OrreryError, match="of kind 'drafter', not 'prepare'"):
        single_stage(recipe(small_run, kind="eagle"), [], kind="prepare", out=out)
    with pytest.raises(OrreryError, match="has no finished drafter"):
        find_drafter(small_run)
