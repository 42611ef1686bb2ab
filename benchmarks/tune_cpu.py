"""Teaching a model from questions and answers on a CPU: orrery against trl's SFTTrainer, with peft for adapters.

    python benchmarks/tune_cpu.py                        # a Llama of 30M parameters, made here
    python benchmarks/tune_cpu.py --model gemma-3-270m --steps 3 --rounds 2

The same examples (functions of the standard library and their docstrings), the same shape, answers alone carry loss, AdamW, fp32, no
activation is computed again. Each candidate is a process of its own and rounds go in turn, so that a machine whose speed drifts slows all
alike. Tokens are real ones: padding counts for nobody. The first steps of a run warm up and are not counted. Peak memory is of the whole
process.
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from orrery.data.source import StdlibSource, read_documents

CONTEXT, ROWS, WARM = 512, 4, 2

OURS = """
import json, resource, sys, tempfile
from pathlib import Path
given = json.loads(sys.stdin.read())
import orrery.serve.lm  # what else a user's process has
from orrery.cli.pipeline.recipe import TuneStage
from orrery.cli.pipeline.tuning import make_tuned
from orrery.kit.config import resolve
from orrery.kit.log import Silent, console, read_jsonl
console.quiet = True
stage = resolve(TuneStage, {
    "base": given["model"], "data": [{"paths": [given["data"]]}], "heldout": 0.0, "chat_template": "none",
    "adapter": {"kind": "lora", "rank": 16, "alpha": 32.0, "targets": ["q_proj", "v_proj"]} if given["lora"] else None,
    "blocks": given["blocks"],
    "loader": {"context": given["context"], "rows": given["rows"], "long": "drop"},
    "loop": {"steps": given["steps"], "precision": given["precision"], "optimizer": {"kind": "adamw", "lr": 1e-4},
             "checkpoint": {"every_seconds": None}, "validate_every": None, "sample_every": None},
})
with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "tuned"
    make_tuned(stage, Path(given["model"]), out, Silent())
    rows = [row for row in read_jsonl(out / "metrics.jsonl") if "tokens" in row and "seconds" in row]
warm = given["warm"] - 1
tokens, seconds = rows[-1]["tokens"] - rows[warm]["tokens"], rows[-1]["seconds"] - rows[warm]["seconds"]
print(json.dumps([tokens / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, rows[-1].get("loss")]))
"""

TRL = """
import json, os, resource, sys, tempfile, time, warnings, logging
given = json.loads(sys.stdin.read())
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer
rows = [json.loads(line) for line in open(given["data"])]
tokenizer = AutoTokenizer.from_pretrained(given["model"])
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
lengths = [len(tokenizer(row["prompt"] + row["completion"]).input_ids) for row in rows[:400]]
rows = [row for row in rows if len(row["prompt"]) + len(row["completion"]) < 3 * given["context"]]
each = given["rows"] if given["packing"] else max(1, round(given["context"] * given["rows"] / (sum(lengths) / len(lengths))))
peft = None
if given["lora"]:
    from peft import LoraConfig
    peft = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
class Clock(TrainerCallback):
    marks, tokens, seen = [], [], 0
    def on_step_end(self, *a, **k):
        self.marks.append(time.perf_counter())
        self.tokens.append(self.seen)
clock = Clock()
with tempfile.TemporaryDirectory() as folder:
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, train_dataset=Dataset.from_list(rows), peft_config=peft, callbacks=[clock],
        args=SFTConfig(
            output_dir=folder, max_steps=given["steps"], per_device_train_batch_size=each, max_length=given["context"],
            packing=given["packing"], learning_rate=1e-4, lr_scheduler_type="constant", use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False, save_strategy="no", logging_strategy="no", dataloader_pin_memory=False, disable_tqdm=True,
        ),
    )
    step = trainer.training_step
    def counted(model, inputs, *a, **k):
        mask = inputs.get("attention_mask")
        Clock.seen += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        return step(model, inputs, *a, **k)
    trainer.training_step = counted
    trainer.train()
warm = given["warm"] - 1
speed = (clock.tokens[-1] - clock.tokens[warm]) / (clock.marks[-1] - clock.marks[warm])
print(json.dumps([speed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, None]))
"""


def pairs(limit: int) -> list[dict[str, str]]:
    """{prompt, completion}: the heads of the standard library's functions, and their docstrings."""
    found: list[dict[str, str]] = []
    for document in read_documents(StdlibSource()):
        try:
            tree = ast.parse(document.text)
        except (SyntaxError, ValueError):
            continue
        lines = document.text.split("\n")
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.FunctionDef)
                and (doc := ast.get_docstring(node))
                and 30 <= len(doc) <= 1200
            ):
                head = "\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]).strip()
                if 0 < len(head) < 200:
                    found.append({"prompt": f"{head}\n", "completion": doc})
        if len(found) >= limit:
            break
    return found[:limit]


def small_llama(folder: Path, texts: list[str]) -> Path:
    """A Llama of 30 million parameters with a vocabulary of 8,192, untrained, as a model folder."""
    from orrery.kit.artifact import write_receipt
    from orrery.model.config import DecoderConfig
    from orrery.model.decoder import Decoder
    from orrery.model.folder import save_model
    from orrery.model.mlp import Mlp
    from orrery.text.config import TokenizerConfig
    from orrery.text.train import train_tokenizer

    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=8192))
    shape = DecoderConfig(
        vocab_size=8192, d_model=512, n_layers=8, n_heads=8, feed_forward=Mlp(d_ff=1408), tied=True, max_positions=1024
    )  # fmt: skip
    folder.mkdir()
    save_model(Decoder(shape, seed=0), folder, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)
    write_receipt(folder, kind="model", operation="initialise")
    return folder


def run(code: str, **given: object) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(given), capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="", help="a GGUF file or gemma-3-270m; left out: a small Llama made here"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="of each run; the first two warm up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = pairs(3000)
        data = Path(scratch) / "pairs.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in found))
        if options.model:
            from orrery.serve.convert import convert
            from orrery.serve.find import find_model

            ours = find_model(options.model)
            theirs = Path(scratch) / "folder"
            convert(ours, theirs, kind="f32")
        else:
            ours = theirs = small_llama(
                Path(scratch) / "llama", [row["prompt"] + row["completion"] for row in found]
            )
        rows = 2 if options.model else ROWS
        common = {"data": str(data), "context": CONTEXT, "rows": rows, "steps": options.steps, "warm": WARM}
        mine = {**common, "model": str(theirs), "blocks": False, "precision": "fp32"}
        peer = {**common, "model": str(theirs)}
        candidates: dict[str, tuple[str, dict[str, object]]] = {}
        if not options.model:
            candidates |= {
                "orrery, all weights": (OURS, {**mine, "lora": False}),
                "trl, all weights, packing": (TRL, {**peer, "lora": False, "packing": True}),
                "trl, all weights, padding": (TRL, {**peer, "lora": False, "packing": False}),
                "orrery, all weights, bf16": (OURS, {**mine, "lora": False, "precision": "bf16"}),
            }
        candidates |= {"orrery, LoRA": (OURS, {**mine, "lora": True})}
        if options.model:
            candidates |= {
                "orrery, LoRA, blocks": (OURS, {**mine, "model": str(ours), "lora": True, "blocks": True})
            }
        candidates |= {
            "trl + peft, LoRA, packing": (TRL, {**peer, "lora": True, "packing": True}),
            "trl + peft, LoRA, padding": (TRL, {**peer, "lora": True, "packing": False}),
        }
        results: dict[str, list[list[float]]] = {name: [] for name in candidates}
        for n in range(options.rounds):
            for name, (code, given) in candidates.items():
                results[name].append(run(code, **given))
                print(
                    f"round {n + 1}: {name}: {results[name][-1][0]:,.0f} tokens/s, {results[name][-1][1]:,.0f} MB",
                    file=sys.stderr,
                )
    print(
        f"{options.model or 'Llama, 30M'}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}\n"
    )
    print("| | tokens/s | peak MB | orrery (fp32, the same kind) is faster by | with memory |")
    print("|---|---|---|---|---|")
    for name, values in results.items():
        own = results["orrery, LoRA" if "LoRA" in name else "orrery, all weights"]
        faster = statistics.median(a[0] / b[0] for a, b in zip(own, values, strict=True))
        memory = statistics.median(a[1] / b[1] for a, b in zip(own, values, strict=True))
        speed, peak = (statistics.median(v[i] for v in values) for i in (0, 1))
        print(f"| {name} | {speed:,.0f} | {peak:,.0f} | {faster:.2f}x | {memory:.2f}x |")


if __name__ == "__main__":
    main()
