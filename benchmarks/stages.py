"""What each stage of alignment adds: the recipes tulu3 and r1 on the small model, with stages left out, on the same questions.

    python benchmarks/stages.py                             # from text, about half an hour on two cores
    python benchmarks/stages.py --base runs/quickstart --questions 200

Every variant is a recipe with changed settings; what variants share is made once, since stages are kept by what went into them. Stages
take a number of steps, not minutes, so that the table does not depend on the machine. Answers are greedy; gains are paired, question by
question, against the row named; the table goes to the screen and to benchmarks/stages/table.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orrery.cli.pipeline.runner import run_recipe
from orrery.evaluate.results import read_results
from orrery.evaluate.statistics.paired import paired_difference
from orrery.kit.config import read_yaml

ROOT = Path(__file__).resolve().parents[1]
FROM_TEXT = ("tokenizer", "prepare", "train")
STEPS = {
    "train": 1000, "sft": 150, "dpo": 60, "rlvr": 240, "cold-start": 120, "practice": 120, "final": 120,
}  # fmt: skip
"""Of each stage by its name."""


@dataclass(frozen=True)
class Row:
    """A variant: the recipe, what is changed in it, the stage whose scores count, and the row it is compared with."""

    name: str
    recipe: str
    scores: str
    against: str = ""
    changes: tuple[str, ...] = ()


ROWS = (
    Row("base", "tulu3", "base"),
    Row("SFT", "tulu3", "after-sft", "base"),
    Row("SFT, DPO", "tulu3", "after-dpo", "SFT"),
    Row("SFT, DPO, RLVR", "tulu3", "after-rlvr", "SFT, DPO"),
    Row("SFT, RLVR", "tulu3", "after-rlvr", "SFT, DPO, RLVR", ("stages.rlvr.base=sft",)),
    Row("RLVR alone", "tulu3", "after-rlvr", "SFT, RLVR", ("stages.rlvr.base=train",)),
    Row("cold start", "r1", "after-cold-start", "base"),
    Row("cold start, RL", "r1", "after-practice", "cold start"),
    Row("rejection SFT", "r1", "after-sft", "cold start, RL"),
    Row("rejection SFT, RL", "r1", "after-final", "rejection SFT"),
    Row("RL without cold start", "r1", "after-practice", "cold start, RL", ("stages.practice.base=train",)),
)
TASKS = ("python_expression", "arithmetic", "string_manipulation")


def scores(row: Row, *, base: str, questions: int, out: Path, scale: float) -> dict[str, NDArray[np.float64]]:
    """Run the recipe up to the scores that are wanted: by task, for each question whether it was answered rightly."""
    told = read_yaml(ROOT / "recipes" / f"{row.recipe}.yaml")
    names = [stage.get("name", stage["kind"]) for stage in told["stages"]]
    stages = told["stages"][: names.index(row.scores) + 1]
    if base:
        stages = [stage for stage in stages if stage["kind"] not in FROM_TEXT]
    settings = []
    for stage in stages:
        at = f"stages.{stage.get('name', stage['kind'])}"
        if "loop" in stage:
            steps = max(2, round(STEPS[stage.get("name", stage["kind"])] * scale))
            settings += [f"{at}.loop.minutes=null", f"{at}.loop.steps={steps}"]
        if stage["kind"] == "eval":
            settings += [f"{at}.limit={questions}", f"{at}.tasks=[{', '.join(TASKS)}]"]
        if base:
            settings += [f"{at}.{role}={base}" for role in ("base", "model") if stage.get(role) == "train"]
    changes = [change.replace("=train", f"={base or 'train'}") for change in row.changes]
    run_recipe(told | {"stages": stages}, settings + changes, out=out)
    made = {
        stage["name"]: out / stage["folder"] for stage in json.loads((out / "run.json").read_text())["stages"]
    }
    found = read_results(made[row.scores])
    return {
        task: np.array([one.scores.get("exact_match", 0.0) for one in found[task].records]) for task in TASKS
    }


def line(row: Row, found: dict[str, dict[str, NDArray[np.float64]]]) -> str:
    """A row of the table; what gives no answer is wrong here."""
    cells = [row.name]
    for task in TASKS:
        mine = found[row.name][task]
        cell = f"{mine.mean():.3f}"
        if row.against:
            gain = paired_difference(found[row.against][task], mine).difference
            cell += f" ({gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}])"
        cells.append(cell)
    return "| " + " | ".join([*cells, row.against]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="", help="a finished run or model to begin with, instead of text")
    parser.add_argument("--questions", type=int, default=400, help="of each task")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="so many times the usual steps of every stage"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    given = parser.parse_args()
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    lines = ["| stages | " + " | ".join(TASKS) + " | gain over |", "|---" * (len(TASKS) + 2) + "|"]
    for row in ROWS:
        found[row.name] = scores(
            row, base=given.base, questions=given.questions, out=given.out, scale=given.scale
        )
        lines.append(line(row, found))
        print(lines[-1], flush=True)
    table = ROOT / "benchmarks" / "stages" / "table.md"
    table.parent.mkdir(exist_ok=True)
    table.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
