"""Perplexity of one GGUF model on one text in orrery, transformers (the same weights as plain numbers) and llama.cpp.

    python benchmarks/interop/perplexity.py gemma-3-270m book.txt --llama ~/llama/bin/python

The text is cut into pieces of `--context` tokens, BOS before each; every token after BOS is scored. All three see the
same ids, so the numbers are comparable to the last digit of the arithmetic.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import subprocess
import tempfile
from pathlib import Path

import torch

import orrery
from orrery.kit.lm import ScoreRequest
from orrery.serve.convert import convert
from orrery.serve.find import find_model

SCORE = """
import json, sys
import numpy as np
from llama_cpp import Llama
path, pieces, threads = json.loads(sys.stdin.read())
model = Llama(path, n_ctx=len(pieces[0]), n_batch=512, n_threads=threads, n_threads_batch=threads, logits_all=True, verbose=False)
nats = 0.0
for ids in pieces:
    model.reset()
    model.eval(ids)
    logits = np.asarray(model.scores[: len(ids) - 1], dtype=np.float64)
    top = logits.max(-1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
    nats += float((total - logits[np.arange(len(ids) - 1), ids[1:]]).sum())
print(json.dumps(nats))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("model")
    arguments.add_argument("text", type=Path)
    arguments.add_argument("--llama", help="python of an environment with llama-cpp-python")
    arguments.add_argument("--context", type=int, default=512)
    arguments.add_argument("--pieces", type=int, default=32)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    raw = options.text.read_bytes()
    text = (gzip.decompress(raw) if options.text.suffix == ".gz" else raw).decode("utf-8")

    lm = orrery.load(options.model)
    bos = [] if lm.tokenizer.bos_id is None else [lm.tokenizer.bos_id]
    ids, step = lm.tokenizer.encode(text), options.context - len(bos)
    pieces = [[*bos, *ids[i : i + step]] for i in range(0, len(ids) - step, step)][: options.pieces]
    count = sum(len(piece) - 1 for piece in pieces)
    results = {"orrery": sum(lm.score([ScoreRequest(ids=piece)])[0].nats for piece in pieces)}
    del lm
    results["transformers, dequantised"] = _transformers(options.model, pieces)
    if options.llama:
        given = json.dumps([str(find_model(options.model)), pieces, options.threads])
        done = subprocess.run(
            [options.llama, "-c", SCORE], input=given, capture_output=True, text=True, check=True
        )
        results["llama.cpp"] = json.loads(done.stdout.splitlines()[-1])
    print(f"{count:,} tokens of {options.text.name} in pieces of {options.context}")
    ours = math.exp(results["orrery"] / count)
    for name, nats in results.items():
        value = math.exp(nats / count)
        print(f"{name:<28} perplexity {value:10.5f}   orrery's is {ours / value - 1:+.4%} of it")


def _transformers(model: str, pieces: list[list[int]]) -> float:
    """The same weights, dequantised by orrery into a folder that transformers opens."""
    from transformers import AutoModelForCausalLM

    nats = 0.0
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        convert(model, Path(folder) / "plain", kind="f32")
        peer = AutoModelForCausalLM.from_pretrained(Path(folder) / "plain").eval()
        for piece in pieces:
            ids = torch.tensor([piece])
            logprobs = peer(ids).logits[0, :-1].double().log_softmax(-1)
            nats -= float(logprobs.gather(-1, ids[0, 1:, None]).sum())
    return nats


if __name__ == "__main__":
    main()
