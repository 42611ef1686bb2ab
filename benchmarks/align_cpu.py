"""Preferences and practice on a CPU: orrery against trl's DPOTrainer and GRPOTrainer, with transformers generation.

    python benchmarks/align_cpu.py                                  # both, on a Llama of 30M parameters made here
    python benchmarks/align_cpu.py --only dpo --pairs my/pairs.jsonl
    python benchmarks/align_cpu.py --only grpo --responses 16 --rounds 1

DPO: the same real pairs, as many a step, AdamW, fp32, the reference's log-probabilities computed before training on both sides; trl at
several splits of a step into batches, of which the best of the first round goes on. GRPO: the same prompts, as many answers of as many
tokens (an untrained model hardly ever ends an answer; how many were written is printed), the same reward, one update a step, no KL term.

Each candidate is a process of its own and rounds go in turn, so that a machine whose speed drifts slows all alike. The first steps of a run
warm up and are not counted. Peak memory is of the whole process. At the end stands what separates the log-probabilities of our engine
from those of our trainer; trl has no such number, because transformers' generation does not give any.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tune_cpu import pairs as functions
from tune_cpu import run, small_llama

DEMO = Path(__file__).resolve().parents[2] / "shared" / "data" / "pref_dpo_demo" / "pairs.jsonl"
WARM = 1
COMMON = """
import json, os, resource, sys, tempfile, time
from pathlib import Path
given = json.loads(sys.stdin.read())
def reward(text):
    return sum(c.islower() for c in text) / max(len(text), 1)
def told(*numbers):
    print(json.dumps([*numbers, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""
OURS = (
    COMMON
    + """
from orrery.kit.config import resolve
from orrery.kit.log import console, read_jsonl
from orrery.train.config import TrainConfig
from orrery.tune.subject import open_subject
console.quiet = True
subject = open_subject(Path(given["model"]), chat_template="none")
loop = resolve(TrainConfig, {
    "steps": given["steps"], "precision": "fp32", "optimizer": {"kind": "adamw", "lr": 1e-5}, "schedule": {"kind": "constant"},
    "checkpoint": {"every_seconds": None}, "validate_every": None, "sample_every": None,
})
def seconds(out):
    lines = read_jsonl(Path(out) / "metrics.jsonl")
    return lines[-1]["seconds"] - lines[given["warm"] - 1]["seconds"], lines
"""
)
OURS_DPO = (
    OURS
    + """
from orrery.tune.examples import Renderer
from orrery.tune.preference import trainer
from orrery.tune.preference.config import PreferenceConfig
from orrery.tune.preference.material import gather_comparisons
from orrery.tune.preference.pairs import PreferenceSet
cfg = resolve(PreferenceConfig, {
    "loss": {"kind": "dpo"},
    "loader": {"context": given["context"], "pairs": given["each"], "micro_batches": given["pairs"] // given["each"]},
})
found = gather_comparisons(
    [PreferenceSet(paths=(given["data"],))], Renderer(tokenizer=subject.tokenizer, chat=None), cfg.loss, cfg.loader, root=Path(),
    heldout=0.0,
)
plain, spent = trainer.referenced, []
def timed(*a, **k):
    began = time.perf_counter()
    made = plain(*a, **k)
    spent.append(time.perf_counter() - began)
    return made
trainer.referenced = timed
with tempfile.TemporaryDirectory() as out:
    trainer.prefer(cfg, loop, lm=subject.lm(), comparisons=found, out=out)
    took, lines = seconds(out)
items = sum(len(items) for items in found.parts.values())
told((given["steps"] - given["warm"]) * given["pairs"] / took, items / sum(spent))
"""
)
OURS_GRPO = (
    OURS
    + """
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import read_problems
from orrery.tune.rl.trainer import reinforce
cfg = resolve(RlConfig, {
    "problems": [{"paths": [given["data"]], "score": "contains"}], "heldout": 0, "rewards": [{"kind": "learned"}],
    "algorithm": {"kind": "grpo"}, "kl": {"measure_every": 1 if given["gap"] else None},
    "rollout": {"prompts": given["prompts"], "responses": given["responses"], "max_tokens": given["tokens"]},
})
problems = read_problems(cfg.problems, root=Path(), heldout=0)
def judge(conversations):
    return [reward(messages[-1]["content"]) for messages in conversations]
with tempfile.TemporaryDirectory() as out:
    reinforce(cfg, loop, lm=subject.lm(), problems=problems, out=out, learned=judge)
    took, lines = seconds(out)
counted = lines[given["warm"]:]
if given["gap"]:
    told(*(max(line[name] for line in lines) for name in ("first_ratio", "engine_gap", "served_gap")))
else:
    written = lines[-1]["sampled"] - lines[given["warm"] - 1]["sampled"]
    told(len(counted) / took, written / len(counted), sum(line["rollout_seconds"] for line in counted) / took)
"""
)
TRL = (
    COMMON
    + """
import logging, warnings
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
rows = [json.loads(line) for line in open(given["data"])]
tokenizer = AutoTokenizer.from_pretrained(given["model"])
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
class Clock(TrainerCallback):
    marks = []
    def on_step_end(self, *a, **k):
        self.marks.append(time.perf_counter())
usual = dict(
    max_steps=given["steps"], learning_rate=1e-5, lr_scheduler_type="constant", use_cpu=True, bf16=False, report_to="none",
    gradient_checkpointing=False, save_strategy="no", logging_strategy="no", dataloader_pin_memory=False, disable_tqdm=True,
)
"""
)
TRL_DPO = (
    TRL
    + """
from trl import DPOConfig, DPOTrainer
own = DPOTrainer._precompute_ref_logps
spent = []
def timed(self, *a, **k):
    began = time.perf_counter()
    made = own(self, *a, **k)
    spent.append(time.perf_counter() - began)
    return made
DPOTrainer._precompute_ref_logps = timed
with tempfile.TemporaryDirectory() as folder:
    trainer = DPOTrainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(rows), callbacks=[Clock()],
        args=DPOConfig(
            output_dir=folder, per_device_train_batch_size=given["each"], gradient_accumulation_steps=given["pairs"] // given["each"],
            max_length=given["context"], precompute_ref_log_probs=True, **usual,
        ),
    )
    trainer.train()
took = Clock.marks[-1] - Clock.marks[given["warm"] - 1]
told((given["steps"] - given["warm"]) * given["pairs"] / took, len(rows) / sum(spent))
"""
)
TRL_GRPO = (
    TRL
    + """
from trl import GRPOConfig, GRPOTrainer
written, drawing = [], [0.0]
def judge(completions, completion_ids, **k):
    written.append(sum(map(len, completion_ids)))
    return [reward(text) for text in completions]
with tempfile.TemporaryDirectory() as folder:
    trainer = GRPOTrainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list([{"prompt": row["question"]} for row in rows]),
        reward_funcs=judge, callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=folder, per_device_train_batch_size=given["prompts"] * given["responses"] // given["splits"],
            gradient_accumulation_steps=given["splits"], num_generations=given["responses"], max_completion_length=given["tokens"],
            temperature=1.0, beta=0.0, loss_type="grpo", **usual,
        ),
    )
    plain = trainer._generate
    def timed(*a, **k):
        began = time.perf_counter()
        made = plain(*a, **k)
        if len(Clock.marks) >= given["warm"]:
            drawing[0] += time.perf_counter() - began
        return made
    trainer._generate = timed
    trainer.train()
took = Clock.marks[-1] - Clock.marks[given["warm"] - 1]
counted = given["steps"] - given["warm"]
told(counted / took, sum(written[given["warm"]:]) / counted, drawing[0] / took)
"""
)


def comparisons(path: Path | None) -> list[dict[str, str]]:
    """{prompt, chosen, rejected} as texts: of a file of any shape, or functions with their own docstring and another's."""
    from orrery.tune.preference.pairs import PreferenceSet, read_pairs

    if path is None:
        found = functions(400)
        return [
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other["completion"]}
            for row, other in zip(found, [*found[7:], *found[:7]], strict=True)
        ]
    return [
        {
            "prompt": "\n\n".join(str(message["content"]) for message in pair.messages) + "\n\n",
            "chosen": str(pair.chosen[-1]["content"]),
            "rejected": str(pair.rejected[-1]["content"]),
        }
        for pair in read_pairs(PreferenceSet(paths=(str(path),)), root=Path())
    ]


def measure(
    candidates: dict[str, tuple[str, dict[str, Any]]], rounds: int, unit: str
) -> dict[str, list[list[float]]]:
    """Ours and the best of theirs once a round, in turn; how theirs is best split into batches shows in the first."""
    results: dict[str, list[list[float]]] = {name: [] for name in candidates}
    own, *theirs = candidates
    running = list(candidates)
    for n in range(rounds):
        for name in running:
            code, given = candidates[name]
            found = run(code, **given)
            results[name].append(found)
            print(f"round {n + 1}: {name}: {found[0]:.3g} {unit}, {found[-1]:,.0f} MB", file=sys.stderr)
        running = [own, max(theirs, key=lambda name: results[name][0][0])]
    return results


def middle(values: list[list[float]], column: int) -> float:
    """The median of a column."""
    return statistics.median(value[column] for value in values)


def table(results: dict[str, list[list[float]]], columns: list[str]) -> None:
    """Medians; of ours over each, the median of the ratios round by round; and the ratio to the best of trl's."""
    own = next(iter(results))
    print("| | " + " | ".join(columns) + " | peak MB | orrery is faster by | with memory |")
    print("|---|" + "---|" * (len(columns) + 3))
    for name, values in results.items():
        numbers = [f"{middle(values, i):,.3g}" for i in range(len(columns))]
        faster, memory = (
            statistics.median(a[i] / b[i] for a, b in zip(results[own], values, strict=False))
            for i in (0, -1)
        )
        print(
            f"| {name} | {' | '.join(numbers)} | {middle(values, -1):,.0f} | {faster:.2f}x | {memory:.2f}x |"
        )
    best = max(list(results)[1:], key=lambda name: results[name][0][0])
    ratios = sorted(a[0] / b[0] for a, b in zip(results[own], results[best], strict=True))
    print(
        f"\nagainst the best ({best}): {statistics.median(ratios):.2f}x, from {ratios[0]:.2f}x to {ratios[-1]:.2f}x\n"
    )


def dpo(options: argparse.Namespace, model: Path, rows: list[dict[str, str]], scratch: Path) -> None:
    """Pairs a second."""
    data = scratch / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows[: options.steps * options.pairs_a_step]))
    common = {
        "model": str(model), "data": str(data), "context": options.context, "steps": options.steps, "warm": WARM,
        "pairs": options.pairs_a_step,
    }  # fmt: skip
    splits = sorted({options.pairs_a_step, max(1, options.pairs_a_step // 2), 1}, reverse=True)
    candidates = {"orrery": (OURS_DPO, {**common, "each": options.pairs_a_step})}
    candidates |= {f"trl, batches of {each}": (TRL_DPO, {**common, "each": each}) for each in splits}
    results = measure(candidates, options.rounds, "pairs/s")
    print(f"## DPO: {options.pairs_a_step} pairs a step, {options.context} tokens at most\n")
    table(results, ["pairs/s", "of the reference, pairs/s"])


def grpo(options: argparse.Namespace, model: Path, rows: list[dict[str, str]], scratch: Path) -> None:
    """Steps a second."""
    data = scratch / "problems.jsonl"
    asked = [{"question": row["prompt"].strip(), "answer": row["chosen"].split()[0]} for row in rows]
    data.write_text("".join(json.dumps(row) + "\n" for row in asked))
    common = {
        "model": str(model), "data": str(data), "steps": options.steps, "warm": WARM, "prompts": options.prompts,
        "responses": options.responses, "tokens": options.tokens,
    }  # fmt: skip
    candidates = {"orrery": (OURS_GRPO, {**common, "gap": False})}
    candidates |= {
        f"trl, {n} {'batch' if n == 1 else 'batches'} a step": (TRL_GRPO, {**common, "splits": n})
        for n in (1, options.prompts)
    }
    results = measure(candidates, options.rounds, "steps/s")
    print(
        f"## GRPO: {options.prompts} prompts, {options.responses} answers each, {options.tokens} tokens an answer\n"
    )
    table(results, ["steps/s", "tokens written a step", "share of generation"])
    gaps = run(OURS_GRPO, **{**common, "steps": WARM + 2, "gap": True})
    names = (
        "|ratio - 1| of the first update", "engine and trainer, nats", "engine and a whole pass by its kernels, nats",
    )  # fmt: skip
    print("The largest difference: " + "; ".join(f"{n} {v:.3g}" for n, v in zip(names, gaps, strict=False)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("dpo", "grpo"))
    parser.add_argument(
        "--pairs",
        type=Path,
        help="preferences in any shape; left out: a set beside the checkout, else functions and docstrings",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="of each run; the first one warms up")
    parser.add_argument("--pairs-a-step", type=int, default=4)
    parser.add_argument(
        "--context",
        type=int,
        default=640,
        help="tokens of a prompt with an answer, at most; longer pairs are left out",
    )
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--responses", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32, help="of an answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        rows = comparisons(options.pairs or (DEMO if DEMO.is_file() else None))
        model = small_llama(scratch / "llama", [" ".join(row.values()) for row in rows])
        rows = fitting(rows, model, options)
        print(
            f"Llama, 30M, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}\n"
        )
        if options.only != "grpo":
            dpo(options, model, rows, scratch)
        if options.only != "dpo":
            grpo(options, model, rows, scratch)


def fitting(rows: list[dict[str, str]], model: Path, options: argparse.Namespace) -> list[dict[str, str]]:
    """The pairs that no side has to cut, with their mean lengths told."""
    from orrery.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(model)
    lengths = [
        [len(tokenizer.encode(row[part])) for part in ("prompt", "chosen", "rejected")] for row in rows
    ]
    kept = [n for n, (asked, *said) in enumerate(lengths) if asked + max(said) + 2 <= options.context]
    if len(kept) < options.pairs_a_step:
        raise SystemExit(f"only {len(kept)} pairs have {options.context} tokens at most; raise --context")
    mean = [statistics.mean(lengths[n][i] for n in kept) for i in range(3)]
    print(
        f"{len(kept)} of {len(rows)} pairs; tokens on average: prompt {mean[0]:.0f}, chosen {mean[1]:.0f}, rejected {mean[2]:.0f}"
    )
    return [rows[n] for n in kept]


if __name__ == "__main__":
    main()
