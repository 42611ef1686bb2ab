"""What orrery writes as GGUF runs in llama.cpp: equal ids, equal greedy text, and perplexities side by side.

llama.cpp stays in an environment of its own (it compiles for a few minutes):

    python -m venv ~/llama && ~/llama/bin/pip install llama-cpp-python==0.3.36
    python benchmarks/interop/llama_cpp_round_trip.py gemma-3-270m runs/quickstart --llama ~/llama/bin/python

For every model and type: orrery converts and checks the file, then both continue the same prompts greedily from the same
ids. Two programs that add in another order part where two tokens are almost equally likely; so where the texts part, the
script prints how far apart orrery holds the two tokens (nats): a hundredth is rounding, a tenth is a fault.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import torch

import orrery
from orrery.model.packed import Packed
from orrery.serve.convert import check, convert

PROMPTS = ("The capital of France is", "def fibonacci(n):\n", "In the year 1969,", "Water boils at")
TYPES = (
    "f32",
    "f16",
    "bf16",
    "q8_0",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "q4_k_m",
    "q5_k_m",
    "q6_k",
    "q3_k_m",
    "q2_k",
    "iq4_nl",
    "iq4_xs",
)

CONTINUE = """
import json, sys
from llama_cpp import Llama
path, prompts, n, threads = json.loads(sys.stdin.read())
model = Llama(path, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
out = []
for prompt in prompts:
    ids = model.tokenize(prompt.encode(), add_bos=True, special=False)
    model.reset()
    made = []
    for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        made.append(token)
        if len(made) == n:
            break
    out.append([list(ids), made])
print(json.dumps(out))
"""


def in_llama_cpp(python: str, path: Path, n: int, threads: int) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, continuation ids) of each prompt."""
    given = json.dumps([str(path), PROMPTS, n, threads])
    done = subprocess.run([python, "-c", CONTINUE], input=given, capture_output=True, text=True, check=True)
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def in_orrery(path: Path, n: int, prompts: list[list[int]]) -> tuple[list[list[int]], orrery.serve.lm.LM]:  # type: ignore[name-defined]
    lm = orrery.load(path)
    return [list(lm.generate(ids, max_tokens=n, temperature=0.0, ignore_eos=True).ids) for ids in prompts], lm


def gap(lm: orrery.serve.lm.LM, ids: list[int], ours: int, theirs: int) -> float:  # type: ignore[name-defined]
    """How many nats orrery holds between the two next tokens."""
    with torch.inference_mode():
        logits = lm.model.head(lm.model(torch.tensor(ids), Packed([len(ids)]))[-1:])[0]
    return float(logits[ours] - logits[theirs])


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("models", nargs="+")
    arguments.add_argument("--llama", required=True, help="python of an environment with llama-cpp-python")
    arguments.add_argument("--types", nargs="+", default=list(TYPES))
    arguments.add_argument("--tokens", type=int, default=48)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    print(f"{'model':<16}{'type':<9}{'MB':>8}{'KL':>10}  {'prompt ids':<12}{'greedy text':<44}")
    for model in options.models:
        for kind in options.types:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.gguf"
                checked = check(path, opened=convert(model, path, kind=kind), kind=kind)
                theirs = in_llama_cpp(options.llama, path, options.tokens, options.threads)
                ours, lm = in_orrery(path, options.tokens, [ids for ids, _ in theirs])
                bos = [] if lm.tokenizer.bos_id is None else [lm.tokenizer.bos_id]
                same_ids = all(
                    ids == [*bos, *lm.tokenizer.encode(p)]
                    for (ids, _), p in zip(theirs, PROMPTS, strict=True)
                )
                verdicts = []
                for mine, (ids, other) in zip(ours, theirs, strict=True):
                    split = next(
                        (i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), None
                    )
                    verdicts.append(
                        "equal" if split is None
                        else f"to {split} (gap {gap(lm, ids + mine[:split], mine[split], other[split]):.3f})"
                    )  # fmt: skip
                size = path.stat().st_size / 1e6
                print(
                    f"{Path(model).name:<16}{kind:<9}{size:>8.1f}{checked.kl:>10.2e}  "
                    f"{'equal' if same_ids else 'DIFFERENT':<12}{', '.join(verdicts)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
