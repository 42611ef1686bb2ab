"""Load a quantised model, read a prompt, write an answer: orrery against transformers and llama.cpp, in turn, same file.

    python benchmarks/load_and_generate.py                                    # gemma-3-270m, orrery and transformers
    python benchmarks/load_and_generate.py --llama ~/llama/bin/python         # llama.cpp too (an environment with llama-cpp-python)

Every candidate runs in its own process, rounds in turn, so that a machine whose speed drifts slows all alike; the table
has medians and, for every peer, the median of the ratios within rounds. Loading is counted without importing libraries. Greedy decoding of one stream; prompt ids are the same.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from orrery.serve.find import find_model

PROMPT, NEW = 512, 128

ORRERY = """
import json, resource, sys, time
path, prompt, new, threads = json.loads(sys.stdin.read())
import os
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as orrery.load does where torch is not imported yet
import torch, orrery, orrery.serve.lm
torch.set_num_threads(threads)
begin = time.perf_counter()
lm = orrery.load(path)
loaded = time.perf_counter() - begin
from orrery.model.cache import KVCache
from orrery.model.replay import Replay
from orrery.serve.generate import last_logits
ids = list(range(1000, 1000 + prompt))
with torch.inference_mode():
    seconds = []
    for _ in range(3):
        cache = None  # one at a time
        cache = KVCache(lm.model, rows=1, capacity=prompt + new)
        start = time.perf_counter()
        token = int(last_logits(lm.model, cache, ids, 0).argmax())
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    step = Replay(lm.model, cache, rows=[0])
    for place in range(prompt, prompt + new):
        token = int(step([token]).argmax())
    decode = new / (time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([loaded, prompt / min(seconds), decode, peak]))
"""

TRANSFORMERS = """
import json, os, resource, sys, time
os.environ["HF_HUB_OFFLINE"] = "1"
path, prompt, new, threads = json.loads(sys.stdin.read())
import torch
torch.set_num_threads(threads)
from transformers import AutoModelForCausalLM
begin = time.perf_counter()
folder, _, name = path.rpartition("/")
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
loaded = time.perf_counter() - begin
ids = torch.arange(1000, 1000 + prompt)[None]
with torch.inference_mode():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        out = model(ids, logits_to_keep=1, use_cache=True)
        seconds.append(time.perf_counter() - start)
    token, past = out.logits[:, -1:].argmax(-1), out.past_key_values
    start = time.perf_counter()
    for _ in range(new):
        out = model(token, past_key_values=past, use_cache=True)
        token, past = out.logits[:, -1:].argmax(-1), out.past_key_values
    decode = new / (time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([loaded, prompt / min(seconds), decode, peak]))
"""

LLAMA = """
import json, resource, sys, time
path, prompt, new, threads = json.loads(sys.stdin.read())
import llama_cpp
begin = time.perf_counter()
model = llama_cpp.Llama(path, n_ctx=prompt + new, n_batch=prompt, n_threads=threads, n_threads_batch=threads, verbose=False)
loaded = time.perf_counter() - begin
ids = list(range(1000, 1000 + prompt))
seconds = []
for _ in range(3):
    model.reset()
    start = time.perf_counter()
    model.eval(ids)
    seconds.append(time.perf_counter() - start)
token = model.sample(temp=0.0, top_k=1)
start = time.perf_counter()
for _ in range(new - 1):
    model.eval([token])
    token = model.sample(temp=0.0, top_k=1)
decode = (new - 1) / (time.perf_counter() - start)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps([loaded, prompt / min(seconds), decode, peak]))
"""

COLUMNS = ("load s", "prefill tok/s", "decode tok/s", "peak MB")


def measure(python: str, code: str, path: Path, threads: int) -> list[float]:
    """One round of one candidate: the numbers of `COLUMNS`."""
    given = json.dumps([str(path), PROMPT, NEW, threads])
    done = subprocess.run([python, "-c", code], input=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--model", default="gemma-3-270m", help="a GGUF file, or the demo model")
    arguments.add_argument("--llama", help="python of an environment with llama-cpp-python")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    path = find_model(options.model).resolve()
    candidates = {"orrery": (sys.executable, ORRERY), "transformers, fp32": (sys.executable, TRANSFORMERS)}
    if options.llama:
        candidates["llama.cpp"] = (options.llama, LLAMA)
    rows: dict[str, list[list[float]]] = {name: [] for name in candidates}
    for _ in range(options.rounds):
        for name, (python, code) in candidates.items():
            rows[name].append(measure(python, code, path, options.threads))
    print(
        f"{path.name}, {options.threads} threads, prompt {PROMPT}, {NEW} new tokens, {options.rounds} rounds, {platform.machine()}\n"
    )
    print("| | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for name, found in rows.items():
        middle = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"| {name} | " + " | ".join(f"{value:,.1f}" for value in middle) + " |")
    for name, found in rows.items():
        if name == "orrery":
            continue
        ratios = [
            [theirs[0] / ours[0], ours[1] / theirs[1], ours[2] / theirs[2], theirs[3] / ours[3]]
            for ours, theirs in zip(rows["orrery"], found, strict=True)
        ]
        middle = [statistics.median(column) for column in zip(*ratios, strict=True)]
        print(
            f"| orrery is better than {name} by | " + " | ".join(f"{value:.2f}x" for value in middle) + " |"
        )


if __name__ == "__main__":
    main()
