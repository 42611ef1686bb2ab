"""Every algorithm of reinforcement learning from one taught model: what it gains, what it costs, and the curve.

    python benchmarks/rl.py                                       # all of them, three seeds each
    python benchmarks/rl.py --algorithms grpo,rloo --seeds 1 --rounds 40

A small decoder is taught, briefly, what Python expressions are worth (level 1, questions of the training side); then each algorithm goes
on from those same weights with the same problems, answers and rate, for as many rounds. Accuracy is of greedy answers to questions of the
test side. Curves go to benchmarks/rl/<algorithm>-<seed>.csv, the table to the screen and benchmarks/rl/table.md.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from orrery.evaluate import generators
from orrery.kit.config import resolve
from orrery.kit.log import console, read_jsonl
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.train.config import TrainConfig
from orrery.train.loop import train
from orrery.train.optim.config import Muon
from orrery.train.schedule import Constant
from orrery.tune.dataset import Generated, SetConfig, Split
from orrery.tune.examples import Renderer
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.material import gather
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import Problems, read_problems
from orrery.tune.rl.trainer import RlResult, reinforce

ALGORITHMS = (
    "reinforce",
    "rloo",
    "reinforce-pp",
    "ppo",
    "trpo",
    "grpo",
    "dr-grpo",
    "dapo",
    "gspo",
    "cispo",
    "vapo",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "gspo": {
        "algorithm": {"kind": "gspo", "clip_low": 3e-2, "clip_high": 4e-2}
    },  # answers of four tokens: wider than for thousands
    "vapo": {"algorithm": {"kind": "vapo", "critic": {"warmup": 5}}},
}
QUESTIONS = Generated(
    name="python_expression", n=6000, seed=5, difficulty=1, kinds=("item", "largest", "join")
)
CURVE = ("step", "seconds", "sampled", "reward", "accuracy", "group_accuracy", "dead_groups", "heldout", "entropy", "kl_start", "length")  # fmt: skip


def taught(folder: Path, steps: int) -> LM:
    """The start that all share."""
    rows = list(
        generators.rows(
            QUESTIONS.name,
            n=QUESTIONS.n,
            seed=QUESTIONS.seed,
            difficulty=1,
            split="train",
            kinds=QUESTIONS.kinds,
        )
    )
    tokenizer = train_tokenizer(
        [f"{row['question']}\n{row['answer']}\n" for row in rows], TokenizerConfig(vocab_size=384)
    )
    chat = ChatFormat(tokenizer)
    shape = {"d_model": 96, "n_layers": 2, "n_heads": 3, "feed_forward": Mlp(d_ff=256), "max_positions": 64}
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape), seed=1)
    material = gather(
        [SetConfig(generator=QUESTIONS)], Renderer(tokenizer=tokenizer, chat=chat), ExampleLoaderConfig(context=64, rows=16),
        root=folder, parts=Split(heldout=0.0),
    )  # fmt: skip
    loop = TrainConfig(
        steps=steps,
        precision="fp32",
        optimizer=Muon(lr=5e-3),
        schedule=Constant(),
        validate_every=None,
        sample_every=None,
    )
    train(loop, model=model, loader=material.loader, out=folder / "sft", vocabulary=tokenizer)
    return LM(model=model, tokenizer=tokenizer, chat=chat)


def settings(algorithm: str) -> RlConfig:
    """The same for all but the algorithm."""
    return resolve(
        RlConfig,
        {
            "problems": [{"generator": {name: getattr(QUESTIONS, name) for name in ("name", "n", "seed", "difficulty", "kinds")}}],
            "heldout": 200,
            "rollout": {"prompts": 24, "responses": 8, "max_tokens": 8},
            "algorithm": {"kind": algorithm},
            **SETTINGS.get(algorithm, {}),
        },
    )  # fmt: skip


def run(start: LM, problems: Problems, algorithm: str, seed: int, rounds: int, folder: Path) -> RlResult:
    """One run, its curve written down."""
    lm = LM(model=deepcopy(start.model), tokenizer=start.tokenizer, chat=start.chat)
    loop = TrainConfig(
        steps=rounds, precision="fp32", optimizer=Muon(lr=5e-4, weight_decay=0.0), schedule=Constant(warmup=0.05), seed=seed,
        validate_every=0.1, sample_every=None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        result = reinforce(settings(algorithm), loop, lm=lm, problems=problems, out=work)
        lines = read_jsonl(Path(work) / "metrics.jsonl")
    with open(folder / f"{algorithm}-{seed}.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, CURVE, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(lines)
    return result


def row(algorithm: str, results: list[RlResult]) -> str:
    """A line of the table: means over seeds, and between them the least and the most."""
    starts, ends = ([getattr(one, name) for one in results] for name in ("start", "end"))
    mean = statistics.mean
    return (
        f"| {algorithm} | {mean(starts):.3f} | {mean(ends):.3f} | {min(ends):.3f} to {max(ends):.3f} | "
        f"{mean(one.sampled for one in results):,.0f} | {mean(one.seconds for one in results):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--taught", type=int, default=120, help="steps of teaching before")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "rl")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    console.quiet = True
    with tempfile.TemporaryDirectory() as folder:
        start = taught(Path(folder), given.taught)
    cfg = settings("grpo")
    problems = read_problems(cfg.problems, root=Path(), heldout=cfg.heldout)
    table = [
        f"{given.rounds} rounds of {cfg.rollout.prompts} problems x {cfg.rollout.responses} answers, {given.seeds} seeds, "
        f"{sum(p.numel() for p in start.model.parameters()):,} parameters, {torch.get_num_threads()} threads",
        "",
        "| algorithm | accuracy before | after | least to most | tokens written | seconds |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(table), flush=True)
    for algorithm in given.algorithms.split(","):
        found = [
            run(start, problems, algorithm, seed, given.rounds, given.out) for seed in range(given.seeds)
        ]
        table.append(row(algorithm, found))
        print(table[-1], flush=True)
    (given.out / "table.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
