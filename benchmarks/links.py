"""The cost model of links against this machine: all-reduce and all-to-all between processes (gloo), and copies in memory.

    python benchmarks/links.py [--ranks 2] [--rounds 15] [--largest 64]

Messages that stay in a core's cache and larger ones are two links, each a latency and a bandwidth. Each is fitted to every second size
of the all-reduce and must predict the sizes between, and the all-to-all, which it never saw; likewise for copies. The best of the
rounds counts, other work on the machine only adds. The ratio is measured over predicted.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from rich.console import Console
from rich.table import Table

from orrery.plan.hardware import MIB, Link
from orrery.plan.links import all_reduce_seconds, all_to_all_seconds, fit_link, send_seconds
from orrery.plan.machine import cache_sizes

Times = list[tuple[int, float]]
"""(bytes, seconds)."""
Predict = Callable[[int, Link], float]


def best_seconds(work: Callable[[], object], rounds: int) -> float:
    work()
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def rank_main(rank: int, ranks: int, port: int, sizes: list[int], rounds: int, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    found: dict[str, Times] = {"all-reduce": [], "all-to-all": []}
    for size in sizes:
        x, y = torch.ones(size // 4), torch.empty(size // 4)
        for name, work in (
            ("all-reduce", lambda x=x: dist.all_reduce(x)),
            ("all-to-all", lambda x=x, y=y: dist.all_to_all_single(y, x)),
        ):
            dist.barrier()
            found[name].append((size, best_seconds(work, rounds)))
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    dist.destroy_process_group()


def collectives(ranks: int, sizes: list[int], rounds: int) -> dict[str, Times]:
    """Times between `ranks` processes of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        mp.spawn(rank_main, args=(ranks, port, sizes, rounds, str(out)), nprocs=ranks)
        return {
            name: [(size, seconds) for size, seconds in rows]
            for name, rows in json.loads(out.read_text()).items()
        }


def copies(sizes: list[int], rounds: int) -> Times:
    """Times of copying an array into another, by one thread."""
    torch.set_num_threads(1)
    found = []
    for size in sizes:
        source, target = torch.ones(size // 4), torch.empty(size // 4)
        found.append((size, best_seconds(lambda s=source, t=target: t.copy_(s), rounds)))
    return found


def fitted(rows: Times, *, messages: int, parts: int, name: str) -> Link:
    """The link under every second row, each a run of `messages` of one of `parts` of its bytes."""
    seen = rows[::2]
    return fit_link(
        [size / parts for size, _ in seen], [seconds / messages for _, seconds in seen], name=name
    )


def show(title: str, kinds: Sequence[tuple[Link, Times, bool]], predict: Predict) -> None:
    """kinds: (link, rows, whether the link was fitted to every second of them)."""
    table = Table("bytes", "measured us", "predicted us", "ratio", "", title=title, title_justify="left")
    for link, rows, its_own in kinds:
        for n, (size, seconds) in enumerate(rows):
            told = predict(size, link)
            fit = "fitted" if its_own and n % 2 == 0 else "predicted"
            table.add_row(
                f"{size:,}", f"{1e6 * seconds:,.1f}", f"{1e6 * told:,.1f}", f"{seconds / told:.2f}", fit
            )
        table.add_section()
    Console().print(table)
    for link, _, _ in kinds:
        print(f"{link.name}: {1e6 * link.latency:.1f} us + size / {link.bandwidth / 1e9:.2f} GB/s")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--largest", type=int, default=64, help="MiB")
    args = parser.parse_args()
    p, edge = args.ranks, cache_sizes().get("L2", MIB)
    sizes = [4096 * 2**i for i in range(20) if 4096 * 2**i <= args.largest * MIB]

    def split(rows: Times) -> tuple[Times, Times]:
        return [row for row in rows if row[0] <= edge], [row for row in rows if row[0] > edge]

    found = collectives(p, sizes, args.rounds)
    near, far = split(found["all-reduce"])
    links = [
        fitted(rows, messages=2 * (p - 1), parts=p, name=f"gloo, {p} processes, {where}")
        for rows, where in ((near, "in cache"), (far, "from memory"))
    ]
    show(
        "all-reduce",
        [(links[0], near, True), (links[1], far, True)],
        lambda n, link: all_reduce_seconds(n, p, link),
    )
    near, far = split(found["all-to-all"])
    show(
        "all-to-all, by the same links",
        [(links[0], near, False), (links[1], far, False)],
        lambda n, link: all_to_all_seconds(n, p, link),
    )
    near, far = split(copies(sizes, args.rounds))
    links = [
        fitted(rows, messages=1, parts=1, name=f"copy, one thread, {where}")
        for rows, where in ((near, "in cache"), (far, "from memory"))
    ]
    show("copy", [(links[0], near, True), (links[1], far, True)], send_seconds)


if __name__ == "__main__":
    main()
