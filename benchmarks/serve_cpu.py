"""The engine against llama.cpp and transformers on a CPU, in turn, on the same file.

    python benchmarks/serve_cpu.py                       # installs the peers into an environment of their own, once
    python benchmarks/serve_cpu.py --rounds 5 --peers ~/.cache/orrery/peers

Every candidate runs in its own process and rounds go in turn, so that a machine whose speed drifts slows all alike. The table has
medians, and for every peer the median of the ratios within rounds. Prompts are ids, the same for all; decoding is greedy.

    load            from the file to a model that can answer; importing libraries is not counted
    prefill         512 tokens
    decode 1        128 tokens behind a prompt of 512
    repeats         the same behind a text that the model goes on repeating, by prompt lookup (peers: plainly)
    decode 16       16 streams of 64 tokens behind prompts of 32
    peak MB         memory of the whole process
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import venv
from pathlib import Path

from orrery.serve.find import find_model

COLUMNS = ("load s", "prefill tok/s", "decode 1 tok/s", "repeats tok/s", "decode 16 tok/s", "peak MB")
LOWER = (0, 5)
"""Columns in which less is better."""

COMMON = """
import json, os, resource, sys, time
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `import orrery` does where torch is not there yet
given = json.loads(sys.stdin.read())
path, threads, repeats = given["path"], given["threads"], given["repeats"]
prompt = list(range(1000, 1512))
streams = [[2, *range(3000 + 100 * i, 3031 + 100 * i)] for i in range(16)]
def done(load, prefill, one, again, sixteen):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps([load, prefill, one, again, sixteen, peak]))
"""

ORRERY = (
    COMMON
    + """
import torch, orrery, orrery.serve.lm, orrery.serve.engine.engine
torch.set_num_threads(threads)
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.speculate.config import Lookup
start = time.perf_counter()
lm = orrery.load(path)
load = time.perf_counter() - start
def request(ids, n):
    return GenerateRequest(ids=ids, max_tokens=n, sampling=Sampling(temperature=0), ignore_eos=True)
def timed(engine, requests):
    start = time.perf_counter()
    out = engine.generate(requests)
    return time.perf_counter() - start, out
plain = Engine(lm, EngineConfig(prefix_cache=False, fast=given["fast"]))
first = min(timed(plain, [request(prompt, 1)])[0] for _ in range(3))
def decode(engine, ids, n):
    begin = timed(engine, [request(ids, 1)])[0]
    whole, (out,) = timed(engine, [request(ids, n)])
    return (n - 1) / (whole - begin), out
one, answer = decode(plain, prompt, 129)
if given["check"]:
    assert answer.ids == lm.generate([request(prompt, 129)])[0].ids, "the engine and lm.generate part"
begin = timed(plain, [request(ids, 1) for ids in streams])[0]
whole = timed(plain, [request(ids, 65) for ids in streams])[0]
sixteen = 16 * 64 / (whole - begin)
plainly = plain.generate([request(repeats, 129)])[0]
del plain
drafted = Engine(lm, EngineConfig(prefix_cache=False, fast=given["fast"], speculation=Lookup()))
again, answer = decode(drafted, repeats, 129)
assert answer.ids == plainly.ids, "speculation changed the answer"
done(load, 512 / first, one, again, sixteen)
"""
)

TRANSFORMERS = (
    COMMON
    + """
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
torch.set_num_threads(threads)
from transformers import AutoModelForCausalLM
start = time.perf_counter()
folder, _, name = path.rpartition("/")
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
load = time.perf_counter() - start
@torch.inference_mode()
def run(rows, n):
    ids = torch.tensor(rows)
    start = time.perf_counter()
    out = model(ids, logits_to_keep=1, use_cache=True)
    token, past = out.logits[:, -1:].argmax(-1), out.past_key_values
    read = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(n):
        out = model(token, past_key_values=past, use_cache=True)
        token, past = out.logits[:, -1:].argmax(-1), out.past_key_values
    return read, time.perf_counter() - start
first = min(run([prompt], 0)[0] for _ in range(3))
one = 48 / run([prompt], 48)[1]
again = 24 / run([repeats], 24)[1]
sixteen = 16 * 24 / run(streams, 24)[1]
done(load, 512 / first, one, again, sixteen)
"""
)

LLAMA = (
    COMMON
    + """
import ctypes
import llama_cpp as L
import numpy as np
start = time.perf_counter()
model = L.Llama(path, n_ctx=16 * 128, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, n_seq_max=16,
                kv_unified=True, verbose=False) if "kv_unified" in L.Llama.__init__.__code__.co_varnames else L.Llama(
                path, n_ctx=16 * 128, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
load = time.perf_counter() - start
def best():
    return int(np.argmax(np.ctypeslib.as_array(L.llama_get_logits(model.ctx), shape=(model.n_vocab(),))))
def run(ids, n):
    model.reset()
    start = time.perf_counter()
    model.eval(ids)
    read = time.perf_counter() - start
    token = best()
    start = time.perf_counter()
    for _ in range(n):
        model.eval([token])
        token = best()
    return read, time.perf_counter() - start
first = min(run(prompt, 0)[0] for _ in range(3))
one = 128 / run(prompt, 128)[1]
again = 128 / run(repeats, 128)[1]
del model
params = L.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 16 * 128, 512, 512, 16
params.n_threads = params.n_threads_batch = threads
weights = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
ctx = L.llama_init_from_model(weights, params)
vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(weights))
batch = L.llama_batch_init(512, 0, 1)
def put(tokens):  # (token, position, sequence, whether its logits are wanted)
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0], batch.logits[i] = sequence, wanted
    assert L.llama_decode(ctx, batch) == 0
def heads(count):
    rows = [np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), shape=(vocab,)) for i in range(count)]
    return [int(row.argmax()) for row in rows]
put([(t, p, s, p == 31) for s, ids in enumerate(streams) for p, t in enumerate(ids)])
wanted = [32 * s + 31 for s in range(16)]
tokens = [int(np.ctypeslib.as_array(L.llama_get_logits_ith(ctx, i), shape=(vocab,)).argmax()) for i in wanted]
start = time.perf_counter()
for place in range(32, 96):
    put([(t, place, s, True) for s, t in enumerate(tokens)])
    tokens = heads(16)
sixteen = 16 * 64 / (time.perf_counter() - start)
done(load, 512 / first, one, again, sixteen)
"""
)


def peers(folder: Path) -> str:
    """The python of an environment with llama.cpp's bindings and transformers, made once."""
    python = folder / "bin" / "python"
    marker = folder / "ready"
    if not marker.exists():
        print(
            f"installing llama-cpp-python and transformers into {folder} (some minutes, once)",
            file=sys.stderr,
        )
        venv.create(folder, with_pip=True, clear=True)
        wanted = ["llama-cpp-python", "numpy", "torch>=2.13,<2.14", "transformers>=5", "accelerate", "gguf"]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        marker.touch()
    return str(python)


def repeating(path: Path) -> list[int]:
    """A prompt whose continuation repeats it: a list of records, twice, and the beginning of a third time."""
    import orrery

    lines = [f"def field_{i}(record):\n    return record['{name}'].strip().lower()\n" for i, name in enumerate(
        ("name", "street", "city", "country", "email", "phone", "company", "title"))]  # fmt: skip
    text = "".join(lines)
    tokenizer = orrery.load(path).tokenizer
    return [
        2,
        *tokenizer.encode(
            f"# Original file\n{text}\n# The same file, copied\n{text}\n# The same file, copied\n{lines[0]}"
        ),
    ]


def measure(python: str, code: str, given: dict[str, object]) -> list[float]:
    """One round of one candidate: the numbers of `COLUMNS`."""
    done = subprocess.run([python, "-c", code], input=json.dumps(given), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--model", default="gemma-3-270m", help="a GGUF file, or the demo model")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument(
        "--peers",
        type=Path,
        default=Path.home() / ".cache/orrery/peers",
        help="where the peers are installed",
    )
    arguments.add_argument(
        "--without", nargs="*", default=[], help="peers to leave out: llama.cpp, transformers"
    )
    options = arguments.parse_args()
    path = find_model(options.model).resolve()
    given = {
        "path": str(path),
        "threads": options.threads,
        "repeats": repeating(path),
        "fast": False,
        "check": True,
    }
    candidates: dict[str, tuple[str, str, dict[str, object]]] = {
        "orrery": (sys.executable, ORRERY, given),
        "orrery, 8-bit activations": (sys.executable, ORRERY, given | {"fast": True, "check": False}),
    }
    for name, code in (("llama.cpp", LLAMA), ("transformers", TRANSFORMERS)):
        if name not in options.without:
            candidates[name] = (peers(options.peers), code, given)
    rows: dict[str, list[list[float]]] = {name: [] for name in candidates}
    for _ in range(options.rounds):
        for name, (python, code, what) in candidates.items():
            rows[name].append(measure(python, code, what))
    print(f"{path.name}, {options.threads} threads, {options.rounds} rounds, {platform.machine()}\n")
    print("| | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for name, found in rows.items():
        middle = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"| {name} | " + " | ".join(f"{value:,.1f}" for value in middle) + " |")
    for name in [name for name in candidates if name not in ("orrery", "orrery, 8-bit activations")]:
        ratios = [
            [t / o if i in LOWER else o / t for i, (o, t) in enumerate(zip(ours, theirs, strict=True))]
            for ours, theirs in zip(rows["orrery"], rows[name], strict=True)
        ]
        middle = [statistics.median(column) for column in zip(*ratios, strict=True)]
        print(
            f"| orrery is better than {name} by | " + " | ".join(f"{value:.2f}x" for value in middle) + " |"
        )


if __name__ == "__main__":
    main()
