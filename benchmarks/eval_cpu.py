"""Log-likelihood tasks on a CPU: orrery and lm-evaluation-harness's hf backend, in turn, on the same folder and the same requests.

    python benchmarks/eval_cpu.py --data ../shared/data --model tiny
    python benchmarks/eval_cpu.py --data ../shared/data --model gemma-3-270m --blimp 268 --mmlu 60 --rounds 3

`tiny` is a Llama of 9 million parameters that is made here; any other model is first written as a Hugging Face folder in float32. BLiMP pairs
are short texts that begin in few ways; MMLU questions have the five examples of their subject in front (the prompts are those of the task
`mmlu`, baked into rows, so that both sides score the same texts). Every candidate runs in its own process; rounds go in turn, so that a
machine whose speed drifts slows all alike. Counted is, of orrery, the whole evaluation but loading (reading rows, prompts, tokenising, the
model, scores, hashing the model), and of lm-eval only its `loglikelihood` call (tokenising and the model).
The scores must be equal: the largest difference of two log-probabilities is printed, and how often the chosen answers differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OURS = """
import json, sys, time
from pathlib import Path
given = json.loads(sys.stdin.read())
import torch
torch.set_num_threads(given["threads"])
import orrery
from orrery.evaluate.run_task import run_task
from orrery.evaluate.task import Task
from orrery.kit.config import resolve
from orrery.model.quantised import use_native_kernels
lm = orrery.load(given["model"])
if given["native"]:
    use_native_kernels(lm.model)
task = resolve(Task, {
    "name": given["task"], "version": 1, "about": "x", "kind": "choices", "prompt": "{{ context }}", "choices": "{{ choices }}",
    "answer": "{{ label }}", "data": {"path": given["task"] + ".jsonl"},
})
start = time.perf_counter()
result = run_task(lm, task, data=Path(given["rows"]))
seconds = time.perf_counter() - start
print(json.dumps([seconds, [record.detail["logprobs"] for record in result.records]]))
"""

THEIRS = """
import json, os, sys, time
from pathlib import Path
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
given = json.loads(sys.stdin.read())
os.environ["HF_DATASETS_CACHE"] = given["rows"] + "/cache"
import torch
torch.set_num_threads(given["threads"])
import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
name = given["task"]
Path(given["rows"], name + ".yaml").write_text(json.dumps({
    "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": given["rows"] + "/" + name + ".jsonl"}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{context}}", "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}", "target_delimiter": "", "metric_list": [{"metric": "acc"}],
}))
manager = TaskManager(include_path=given["rows"], include_defaults=False)
model = HFLM(pretrained=given["model"], device="cpu", dtype="float32", batch_size=given["batch"])
seconds, loglikelihood = 0.0, model.loglikelihood
def timed(*args, **more):
    global seconds
    start = time.perf_counter()
    found = loglikelihood(*args, **more)
    seconds += time.perf_counter() - start
    return found
model.loglikelihood = timed
found = lm_eval.simple_evaluate(model=model, tasks=[name], task_manager=manager, bootstrap_iters=0, log_samples=True)
samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
print(json.dumps([seconds, [[float(one[0]) for one in sample["filtered_resps"]] for sample in samples]]))
"""

CANDIDATES: dict[str, tuple[str, bool]] = {
    "orrery": (OURS, False),
    "orrery, our kernel": (OURS, True),
    "lm-eval hf": (THEIRS, False),
}


def write_rows(data: Path, folder: Path, *, blimp: int, mmlu: int) -> None:
    """`blimp.jsonl` and `mmlu.jsonl`: context, choices, label; as the tasks of these names ask."""
    from orrery.evaluate.prompts import ask
    from orrery.evaluate.rows import read_rows, shots_of
    from orrery.evaluate.task import find_task

    for name, count in (("blimp", blimp), ("mmlu", mmlu)):
        task = find_task(name)
        rows = read_rows(task, data, limit=None)
        # neighbours: questions of one subject follow each other, as in a whole evaluation
        step = max(len(rows.rows) // max(count, 1), 1) if name == "blimp" else 1
        with (folder / f"{name}.jsonl").open("w") as file:
            for row in rows.rows[::step][:count]:
                shots = shots_of(task, rows, row, count=task.shots, seed=0) if task.shots else []
                prompt = ask(task, row.fields, shots, chat=False)
                one = {"context": prompt.text, "choices": prompt.choices, "label": prompt.gold[0]}
                file.write(json.dumps(one) + "\n")


def write_tiny(folder: Path, texts: list[str]) -> None:
    """A Llama of 9 million parameters with a tokenizer of 8,192 tokens."""
    from orrery.model import Decoder, DecoderConfig
    from orrery.model.folder import save_model
    from orrery.model.mlp import Mlp
    from orrery.text import TokenizerConfig, train_tokenizer

    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=8192, add_bos=True))
    shape = {"d_model": 256, "n_layers": 8, "n_heads": 8, "n_kv_heads": 4, "max_positions": 4096}
    cfg = DecoderConfig(vocab_size=tokenizer.vocab_size, feed_forward=Mlp(d_ff=704), **shape)
    model = Decoder(cfg, seed=0)
    for parameter in model.parameters():  # far from uniform, so that scores differ
        parameter.data.mul_(2.0 if parameter.ndim > 1 else 1.0)
    save_model(model, folder, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)


def measure(source: str, given: dict[str, Any]) -> tuple[float, list[list[float]]]:
    """Seconds and log-probabilities of one candidate, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", source], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(ran.stderr[-3000:])
    seconds, logprobs = json.loads(ran.stdout.strip().splitlines()[-1])
    return seconds, logprobs


def compare(a: list[list[float]], b: list[list[float]]) -> tuple[float, int]:
    """The largest difference of two log-probabilities, and the rows in which another answer is the likeliest."""
    largest = max(
        abs(x - y) for mine, other in zip(a, b, strict=True) for x, y in zip(mine, other, strict=True)
    )
    chosen = sum(mine.index(max(mine)) != other.index(max(other)) for mine, other in zip(a, b, strict=True))
    return largest, chosen


def main() -> None:
    """Run all candidates in turn and print a table for each task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with blimp/ and mmlu/")
    parser.add_argument("--model", default="tiny", help="tiny, or a model that orrery opens")
    parser.add_argument("--blimp", type=int, default=200, help="pairs")
    parser.add_argument("--mmlu", type=int, default=40, help="questions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-blimp", type=int, default=16, help="lm-eval's batch size on BLiMP")
    parser.add_argument(
        "--batch-mmlu", type=int, default=2, help="lm-eval's batch size on MMLU, whose logits must fit"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        rows = Path(room) / "rows"
        rows.mkdir()
        write_rows(given.data, rows, blimp=given.blimp, mmlu=given.mmlu)
        folder = Path(room) / "model"
        if given.model == "tiny":
            write_tiny(
                folder, [line for name in ("blimp", "mmlu") for line in (rows / f"{name}.jsonl").open()]
            )
        else:
            from orrery.serve.convert import convert

            convert(Path(given.model), folder, kind="f32")
        for task, batch in (("blimp", given.batch_blimp), ("mmlu", given.batch_mmlu)):
            settings = {
                "model": str(folder),
                "rows": str(rows),
                "task": task,
                "threads": given.threads,
                "batch": batch,
            }
            seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
            scores: dict[str, list[list[float]]] = {}
            for _ in range(given.rounds):
                for name, (source, native) in CANDIDATES.items():
                    took, scores[name] = measure(source, settings | {"native": native})
                    seconds[name].append(took)
                    print(f"{task}: {name} {took:.2f} s", file=sys.stderr)
            report(task, seconds, scores)


def report(task: str, seconds: dict[str, list[float]], scores: dict[str, list[list[float]]]) -> None:
    """A table: medians, the median of the ratios within rounds, and whether the scores are equal."""
    *mine, peer = CANDIDATES
    rows = len(scores[peer])
    print(
        f"\n{task}, {rows} rows\n\n| | s | rows/s | lm-eval takes | largest difference of log p | other answers |"
    )
    print("|---|---|---|---|---|---|")
    for name in (*mine, peer):
        ratio = statistics.median(b / a for a, b in zip(seconds[name], seconds[peer], strict=True))
        largest, chosen = compare(scores[name], scores[peer])
        median = statistics.median(seconds[name])
        print(f"| {name} | {median:.2f} | {rows / median:.1f} | {ratio:.2f}x | {largest:.1e} | {chosen} |")


if __name__ == "__main__":
    main()
