"""Accuracy against tokens spent, for every test-time strategy on one model and one task: a table, and the figure as SVG.

    python benchmarks/strategies.py                                          gemma-3-270m adds; some minutes on two cores
    python benchmarks/strategies.py runs/my-model --task gsm8k --data data --limit 100 --out benchmarks/strategies

Questions, seeds and demonstrations are the same for all. What the model cannot do (no chat format, no marks for thinking, no sandbox) is
named and left out. `best-of-n by verifier` knows the right answer: it is the most that choosing among n samples could gain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import orrery
from orrery.evaluate.run_task import run_task
from orrery.evaluate.strategies.config import parse
from orrery.evaluate.strategies.spending import COLUMNS, by_task, figure
from orrery.evaluate.subject import Subject
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write

ALL = (
    "direct", "cot", "self-consistency:n=2", "self-consistency:n=4", "self-consistency:n=8",
    "best-of-n:n=4,by=likelihood", "best-of-n:n=4,by=equations",
    "best-of-n:n=2,by=verifier", "best-of-n:n=4,by=verifier", "best-of-n:n=8,by=verifier",
    "beam:width=2,expand=2,steps=6,max_tokens=48", "tree:samples=2,votes=1,width=2,depth=3,max_tokens=48",
    "budget-forcing:effort=low", "budget-forcing:effort=medium", "self-refine:rounds=1", "self-refine:rounds=1,critic=equations",
    "program-aided",
)  # fmt: skip


def main() -> None:
    args = _arguments()
    subject = Subject.of(orrery.load(args.model))
    results = []
    for text in args.strategy or [_fitting(text, subject) for text in ALL]:
        try:
            results.append(
                run_task(
                    subject, args.task, data=args.data, limit=args.limit, shots=args.shots, seed=args.seed,
                    strategy=parse(text), out=args.out / "results",
                )
            )  # fmt: skip
            print(f"done: {text}", flush=True)
        except OrreryError as error:
            print(f"left out: {text}: {error}", flush=True)
    for task, found in by_task(results).items():
        lines = [
            f"# {task}, {subject.name}: accuracy against tokens",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
        ]
        lines += [f"| {' | '.join(one.row())} |" for one in found]
        args.out.mkdir(parents=True, exist_ok=True)
        atomic_write(args.out / f"{task}.md", "\n".join(lines) + "\n")
        atomic_write(args.out / f"{task}.svg", figure(f"{task}, {subject.name}", found) + "\n")
        print("\n".join(lines))
        print(f"\nthe figure is in {args.out / f'{task}.svg'}")


def _fitting(text: str, subject: Subject) -> str:
    """Of a base model, samples go on from the task's demonstrations: a sentence between them and the answer would only confuse it."""
    if subject.chat is None and text.startswith(("self-consistency", "best-of-n")):
        return text + ",instruction=''"
    return text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default="gemma-3-270m")
    parser.add_argument("--task", default="arithmetic")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--shots", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategy", action="append", help="instead of all; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("runs/strategies"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
