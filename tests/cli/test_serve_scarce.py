"""`orrery serve` where descriptors or the disk run out: it waits or drops what it would have written, goes on, and recovers."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.http.raw import Answer, ask, connect, head, post, read

SERVE = "import sys; from orrery.cli import main; sys.argv[1:1] = ['serve']; main()"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def serve(run: Path, before: str, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server started behind a line of shell: (its port, its process)."""
    port = free_port()
    words = " ".join(options)
    line = f'{before} exec "{sys.executable}" -c "{SERVE}" "{run}" --port {port} --max-tokens 16 {words}'
    process = subprocess.Popen(["bash", "-c", line], start_new_session=True)
    try:
        until = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the server ended"
            with contextlib.suppress(OSError):
                if ask(port, head("GET", "/ready")).status == 200:
                    break
            assert time.monotonic() < until, "the server did not get ready"
            time.sleep(0.1)
        yield port, process
        assert process.poll() is None, "the server ended"
    finally:
        process.terminate()
        process.wait(30)


def completion(port: int) -> Answer:
    return ask(port, post("/v1/completions", {"model": "small", "prompt": "the cat", "max_tokens": 4}))


@pytest.mark.slow
def test_more_clients_than_descriptors(small_run: Path) -> None:
    with serve(small_run, "ulimit -n 64;", "--name", "small") as (port, process):
        answered: list[int] = []

        def client() -> None:
            with contextlib.suppress(OSError, ConnectionError), connect(port, 30.0) as sock:
                sock.sendall(post("/v1/completions", {"model": "small", "prompt": "a", "max_tokens": 2}))
                time.sleep(0.5)  # holds its connection, so that the others find none
                answered.append(read(sock).status)

        threads = [threading.Thread(target=client) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert process.poll() is None
        assert len(answered) > 40 and set(answered) <= {200, 429}
        assert completion(port).status == 200
        deadline = time.monotonic() + 10
        while len(os.listdir(f"/proc/{process.pid}/fd")) > 40 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) <= 40


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_behind_the_log(small_run: Path) -> None:
    with serve(small_run, "exec >/dev/full 2>&1;", "--name", "small", "--verbose", "--log-prompts") as (
        port,
        _,
    ):
        assert [completion(port).status for _ in range(5)] == [200] * 5
        text = ask(port, head("GET", "/metrics")).body.decode()
        assert re.search(r"^orrery_log_dropped_total [1-9]", text, re.MULTILINE)
