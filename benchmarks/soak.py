"""A server under load for a long time: does memory grow, do descriptors, does it grow slow?

    python benchmarks/soak.py                                  # ten minutes, a small model made for it
    python benchmarks/soak.py MODEL --minutes 240 --clients 16

Clients of many kinds (chat and text, streamed and whole, one and several choices, schemas, embeddings, shared and new prompts) against
`orrery serve` in a process of its own; a fifth of them goes away at a random moment. Every tenth of the time a row is printed. At the
end: growth of memory for 10,000 requests (RssAnon + VmSwap, by least squares over the second half, when caches are full), descriptors
first and last, p99 of the last tenth against the first. Exit status 1 where memory grows by more than 1 MiB, descriptors grow, or p99 of
the last tenth is over 1.2 times the first's, or anything was answered with a 5xx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TENTHS = 10
SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "y"]}},
    "required": ["a"],
    "additionalProperties": False,
}


@dataclass
class Load:
    """What clients saw. `latencies`: (when, seconds) of requests that ran to their end."""

    port: int
    chat: bool
    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)

    async def client(self, seed: int, until: float) -> None:
        """One request after another."""
        draw = random.Random(seed)
        while time.monotonic() < until:
            path, body = self.request(draw)
            aborts = draw.random() < 0.2
            started = time.monotonic()
            try:
                async with asyncio.timeout(draw.random() * 0.2 if aborts else 120):
                    status = await self.ask(path, body)
                self.counts[str(status)] += 1
                if status == 200:
                    self.latencies.append((time.monotonic(), time.monotonic() - started))
                elif status == 429:
                    await asyncio.sleep(0.2)
            except TimeoutError:
                self.counts["aborted" if aborts else "lost"] += 1

    def request(self, draw: random.Random) -> tuple[str, dict[str, Any]]:
        """Some request."""
        words = " ".join(
            draw.choice(["the", "cat", "sat", "on", "a", "mat"]) for _ in range(draw.randrange(4, 120))
        )
        text = ("A story that many begin with. " * 8 if draw.random() < 0.5 else "") + words
        body: dict[str, Any] = {
            "max_tokens": draw.choice([1, 8, 32]),
            "seed": draw.randrange(1000),
            "stream": draw.random() < 0.5,
        }
        kind = draw.random()
        if kind < 0.1:
            return "/v1/embeddings", {"input": [text, words]}
        if kind < 0.2:
            body |= {"n": 3, "logprobs": 2, "stop": ["mat"]}
        elif kind < 0.3:
            body |= {
                "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
            }
        elif kind < 0.4:
            body |= {"temperature": 0, "repetition_penalty": 1.2}
        if self.chat and draw.random() < 0.5:
            body.pop("logprobs", None)
            return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": text}]}
        return "/v1/completions", body | {"prompt": text}

    async def ask(self, path: str, body: dict[str, Any]) -> int:
        """The status of one answer, read to its end on a connection of its own."""
        data = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(data)}\r\n\r\n".encode()
                + data
            )
            status = int((await reader.readline()).split()[1])
            while await reader.read(1 << 16):
                pass
            return status
        finally:
            writer.close()


def memory_mib(pid: int) -> float:
    """RssAnon + VmSwap: what the process itself holds, swapped out or not."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(re.search(rf"{name}:\s+(\d+)", text)[1]) for name in ("RssAnon", "VmSwap")) / 1024  # type: ignore[index]


def descriptors(pid: int) -> int:
    """Open files and sockets."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def percentile(values: list[float], share: float) -> float:
    """0 of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line through (x, y)."""
    mx, my = (sum(column) / len(points) for column in zip(*points, strict=True))
    return sum((x - mx) * (y - my) for x, y in points) / max(sum((x - mx) ** 2 for x, _ in points), 1e-9)


async def soak(load: Load, pid: int, *, minutes: float, clients: int) -> bool:
    """Run, print, judge."""
    began = time.monotonic()
    until = began + 60 * minutes
    tasks = [asyncio.create_task(load.client(seed, until)) for seed in range(clients)]
    points: list[tuple[float, float]] = []
    tenths: list[float] = []
    files: list[int] = []
    print("minutes  requests  MiB      descriptors  p50 s   p99 s   answers", flush=True)
    for tenth in range(TENTHS):
        since = time.monotonic()
        while time.monotonic() < began + 60 * minutes * (tenth + 1) / TENTHS:
            await asyncio.sleep(1)
            points.append((load.counts.total(), memory_mib(pid)))
        mine = [seconds for when, seconds in load.latencies if when >= since]
        tenths.append(percentile(mine, 0.99))
        files.append(descriptors(pid))
        print(
            f"{(time.monotonic() - began) / 60:7.1f}  {load.counts.total():8,}  {points[-1][1]:7.1f}  {files[-1]:11}  "
            f"{percentile(mine, 0.5):6.3f}  {tenths[-1]:6.3f}  {dict(sorted(load.counts.items()))}",
            flush=True,
        )
    await asyncio.gather(*tasks)
    await asyncio.sleep(2)
    growth = 10_000 * slope(points[len(points) // 2 :])
    after = descriptors(pid)
    faults = sum(count for status, count in load.counts.items() if status.startswith("5") or status == "lost")
    print(f"memory: {growth:+.2f} MiB for 10,000 requests (limit 1)")
    print(f"descriptors: {files[0]} in the first tenth, {files[-1]} in the last, {after} at rest")
    print(f"p99: {tenths[0]:.3f} s in the first tenth, {tenths[-1]:.3f} s in the last (limit 1.2 times)")
    print(
        f"5xx or lost: {faults}; requests: {load.counts.total():,}, aborted {load.counts['aborted'] / load.counts.total():.0%}"
    )
    return growth <= 1 and files[-1] <= files[0] + clients and tenths[-1] <= 1.2 * tenths[0] and not faults


def small_model(folder: Path) -> Path:
    """A model folder of a few hundred thousand weights with a chat format."""
    from orrery.kit.artifact import write_receipt
    from orrery.model import Decoder, DecoderConfig
    from orrery.model.folder import save_model
    from orrery.model.mlp import Mlp
    from orrery.text import TokenizerConfig, train_tokenizer
    from orrery.text.chat import CONTROL, ChatFormat

    tokenizer = train_tokenizer(
        ['the cat sat on a mat, a story that many begin with. {}":[]xy '] * 20,
        TokenizerConfig(vocab_size=384),
    )
    tokenizer = tokenizer.add_tokens(
        [name for name in CONTROL if name not in tokenizer.special], special=True
    )
    shape = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=64,
        n_layers=2,
        n_heads=4,
        feed_forward=Mlp(d_ff=128),
        max_positions=1024,
    )
    folder.mkdir()
    save_model(Decoder(shape, seed=1), folder, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)
    ChatFormat(tokenizer).save(folder)
    write_receipt(folder, kind="model", operation="soak")
    return folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "model", nargs="?", help="what orrery serve takes (default: a small model made for this)"
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=12)
    asked = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        model = asked.model or small_model(Path(scratch) / "small")
        command = [sys.executable, "-c", "from orrery.cli import main; main()", "serve", str(model)]
        small = [] if asked.model else ["--kv-memory", "16"]  # a cache that is full, and so flat, soon
        server = subprocess.Popen([*command, "--port", str(port), "--queue", "64", *small])
        try:
            chat = asyncio.run(ready(port, server))
            load = Load(port, chat)
            good = asyncio.run(soak(load, server.pid, minutes=asked.minutes, clients=asked.clients))
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
        print(f"the server left with {code}")
    sys.exit(0 if good and code == 0 else 1)


async def ready(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server takes requests; whether its model chats."""
    while server.poll() is None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return json.loads(answer.partition(b"\r\n\r\n")[2])["data"][0]["orrery"]["chat"]
    raise SystemExit("the server did not start; its own words are above")


if __name__ == "__main__":
    main()
