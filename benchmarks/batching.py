"""What the engine's way of batching gains, what its steps cost, and whether its memory is what was planned.

    python benchmarks/batching.py                             # gemma-3-270m
    python benchmarks/batching.py runs/quickstart --requests 16 --contexts 32,64,128 --batches 1,2,4

1. Static batching, a plain loop over batches that each wait for their longest answer, against continuous batching (Yu et al. 2022,
   Orca), on the same requests with lognormal lengths, greedily. Their tokens must be the same.
2. Milliseconds of a decode step against context length and batch size.
3. Memory of keys and values: what the process grew by, against what `orrery plan` says. It fails beyond a tenth.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import orrery
from orrery.kit.allocator import give_back_freed_memory
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.cache import Cached, KVCache
from orrery.plan.kv_cache import kv_bytes
from orrery.serve.engine.config import USUAL_CONTEXT, EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.store import bytes_per_token
from orrery.serve.lm import LM
from orrery.serve.load_lengths import SHAREGPT_ANSWER, Lengths, Lognormal
from orrery.serve.load_report import bar

GREEDY = Sampling(temperature=0.0)


def prompt(lm: LM, n: int, seed: int) -> list[int]:
    """n ids that no other seed begins with."""
    rng = random.Random(seed)
    return [rng.randrange(10, min(lm.tokenizer.vocab_size, 20_000)) for _ in range(n)]


def request(lm: LM, n: int, new: int, seed: int) -> GenerateRequest:
    """A prompt of n tokens that is answered by `new`."""
    return GenerateRequest(ids=prompt(lm, n, seed), max_tokens=new, sampling=GREEDY, ignore_eos=True)


# --- 1. static and continuous


@torch.inference_mode()
def static(lm: LM, requests: Sequence[GenerateRequest], batch: int) -> list[tuple[int, ...]]:
    """Batch by batch: read all prompts, then a token for every row until the longest answer is whole. Rows that are done go on."""
    made: list[tuple[int, ...]] = []
    for first in range(0, len(requests), batch):
        group = requests[first : first + batch]
        steps = max(r.max_tokens for r in group)
        cache = KVCache(lm.model, rows=len(group), capacity=max(len(r.ids) for r in group) + steps)
        pieces = [(row, 0, len(r.ids)) for row, r in enumerate(group)]
        tokens = torch.tensor([i for r in group for i in r.ids])
        hidden = lm.model(tokens, Cached(cache, pieces))
        ends = torch.tensor([len(r.ids) for r in group]).cumsum(0) - 1
        rows: list[list[int]] = [[] for _ in group]
        for step in range(steps):
            chosen = lm.model.head(hidden[ends])[:, : lm.tokenizer.vocab_size].argmax(-1)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                row.append(token)
            if step + 1 < steps:
                where = [(row, cache.lengths[row], 1) for row in range(len(group))]
                hidden, ends = lm.model(chosen, Cached(cache, where)), torch.arange(len(group))
        made += [tuple(row[: r.max_tokens]) for row, r in zip(rows, group, strict=True)]
    return made


def compare_batching(lm: LM, console: Console, *, requests: int, batch: int, rounds: int) -> None:
    """The same requests both ways, in turn."""
    longest = min(lm.context, 512)
    lengths = Lengths(prompt=Lognormal(mean=longest / 8, sigma=0.83), answer=Lognormal(mean=longest / 8, sigma=SHAREGPT_ANSWER.sigma), longest=longest)  # fmt: skip
    rng = random.Random(0)
    asked = [request(lm, *lengths.draw(rng), seed) for seed in range(requests)]
    engine = Engine(lm, EngineConfig(max_sequences=batch, prefix_cache=False))
    tokens = sum(r.max_tokens for r in asked)
    times: dict[str, list[float]] = {"static": [], "continuous": []}
    for _ in range(rounds):
        start = time.perf_counter()
        plain = static(lm, asked, batch)
        times["static"].append(time.perf_counter() - start)
        start = time.perf_counter()
        done = engine.generate(asked)
        times["continuous"].append(time.perf_counter() - start)
        same = [completion.ids for completion in done] == plain
        if not same:
            raise SystemExit("the two ways of batching gave different tokens")
    computed = sum(len(asked[i : i + batch]) * max(r.max_tokens for r in asked[i : i + batch]) for i in range(0, requests, batch))  # fmt: skip
    table = Table(title=f"{requests} requests, {tokens:,} tokens of answers, batches of {batch}; the same tokens", title_justify="left")  # fmt: skip
    for name in ("", "seconds", "tokens/s", "", "rows computed for a token"):
        table.add_column(name, justify="left" if not name else "right")
    best = max(tokens / statistics.median(t) for t in times.values())
    for name, taken in times.items():
        speed = tokens / statistics.median(taken)
        waste = computed / tokens if name == "static" else 1.0
        table.add_row(
            name, f"{statistics.median(taken):.2f}", f"{speed:,.1f}", bar(speed, best), f"{waste:.2f}"
        )
    console.print(table)
    ratio = statistics.median(a / b for a, b in zip(times["static"], times["continuous"], strict=True))
    console.print(f"continuous is {ratio:.2f} times as fast as static\n")


# --- 2. what a step costs


def step_time(lm: LM, context: int, batch: int, steps: int) -> float:
    """Median seconds of a decode step of `batch` sequences that have `context` tokens each."""
    need = batch * kv_bytes(lm.config, context + steps + 32, bytes_per_number=4)
    config = EngineConfig(max_sequences=batch, prefix_cache=False, kv_memory=2 * need + (64 << 20))
    engine = Engine(lm, config)
    for seed in range(batch):
        engine.add(request(lm, context, steps + 4, seed))
    while engine.stats().generated_tokens < batch:
        engine.step()
    engine.step()  # the first step of a batch is recorded
    taken = []
    for _ in range(steps):
        start = time.perf_counter()
        engine.step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def plot_steps(
    lm: LM, console: Console, *, contexts: Sequence[int], batches: Sequence[int], steps: int
) -> None:
    """Two tables: milliseconds a step, and the same a token with a bar."""
    found = {(c, b): 1e3 * step_time(lm, c, b, steps) for c in contexts for b in batches}
    table = Table(title="a decode step, milliseconds", title_justify="left")
    table.add_column("context")
    for b in batches:
        table.add_column(f"batch {b}", justify="right")
    for c in contexts:
        table.add_row(f"{c:,}", *(f"{found[c, b]:.1f}" for b in batches))
    console.print(table)
    for title, pairs in (
        (f"against context, batch {batches[0]}", [(f"{c:,}", found[c, batches[0]]) for c in contexts]),
        (
            f"a token, against batch, context {contexts[0]:,}",
            [(f"{b}", found[contexts[0], b] / b) for b in batches],
        ),
    ):
        plot = Table(title=title, title_justify="left", show_header=False, box=None)
        most = max(ms for _, ms in pairs)
        for name, ms in pairs:
            plot.add_row(name, f"{ms:.1f} ms", bar(ms, most))
        console.print(plot)
    console.print()


# --- 3. memory


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1]
    return int(fields.split()[0]) * 1024


def check_memory(lm: LM, console: Console, *, context: int, batch: int) -> bool:
    """Let `batch` sequences in beside as many that run already; whether the process grows by what the plan says of their length, and
    the blocks that are held too, within a tenth. (The first ones take what any step takes besides.)"""
    budget = 64  # what windows hold too much while a prompt is read
    new = context // 4  # the first one still runs when the last one has been read
    # Pools are shared out as if sequences were long; what is not written is not taken.
    memory = 4 * batch * kv_bytes(lm.config, max(context, USUAL_CONTEXT) + budget, bytes_per_number=4)
    config = EngineConfig(max_sequences=2 * batch, prefix_cache=False, token_budget=budget, kv_memory=memory)
    engine, found = Engine(lm, config), []
    groups = [(bytes_per_token(specs, "float32") * config.block_size) for _, specs in engine.memory.store.groups]  # fmt: skip
    for first in (0, batch):
        for seed in range(first, first + batch):
            engine.add(request(lm, context - new, new, seed))
        while any(s.computed < s.prompt for job in engine.jobs.values() for s in job.sequences):
            engine.step()
        gc.collect()
        give_back_freed_memory()
        live = [s.computed for job in engine.jobs.values() for s in job.sequences]
        planned = sum(kv_bytes(lm.config, length, bytes_per_number=4) for length in live)
        held = sum(pool.used * size for pool, size in zip(engine.memory.pools, groups, strict=True))
        found.append((planned, held, resident()))
    planned, held, grown = (after - before for before, after in zip(*found, strict=True))
    table = Table(title=f"{batch} more sequences of {min(live):,} to {max(live):,} tokens, MB", title_justify="left")  # fmt: skip
    table.add_column("")
    table.add_column("MB", justify="right")
    table.add_column("off", justify="right")
    table.add_row("the plan's keys and values", f"{planned / 1e6:.2f}", "")
    for name, real in (("the engine's blocks", held), ("the process", grown)):
        table.add_row(name, f"{real / 1e6:.2f}", f"{real / planned - 1:+.1%}")
    console.print(table)
    return all(abs(real / planned - 1) <= 0.1 for real in (held, grown))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="gemma-3-270m")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contexts", default="64,256,1024,2048")
    parser.add_argument("--batches", default="1,2,4,8,16")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    contexts, batches = ([int(x) for x in text.split(",")] for text in (given.contexts, given.batches))
    console, lm = Console(), orrery.load(given.model)
    compare_batching(lm, console, requests=given.requests, batch=given.batch, rounds=given.rounds)
    plot_steps(lm, console, contexts=contexts, batches=batches, steps=given.steps)
    if not check_memory(lm, console, context=contexts[-1], batch=min(batches[-1], 8)):
        raise SystemExit("memory is not what was planned, within a tenth")


if __name__ == "__main__":
    main()
