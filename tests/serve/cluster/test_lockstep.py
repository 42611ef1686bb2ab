"""One engine on two ranks: rank 0 is asked, both compute, and the answers are those of one process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
import torch
import torch.distributed as dist

from orrery.kit.errors import OrreryError
from orrery.kit.lm import EmbedRequest, GenerateRequest, Grammar, Sampling
from orrery.model.tensor_parallel import Ranks, parallelise, ranks_of
from orrery.serve.cluster.lockstep import Leader, follow
from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM

ROOT = Path(__file__).resolve().parents[3]
CONFIG = EngineConfig(max_sequences=4, token_budget=16, block_size=4, kv_memory=96_000)
"""Small enough that prompts come in pieces and sequences make room for each other."""


def requests() -> list[GenerateRequest]:
    """What an engine does besides plain decoding, and more of it than fits at once."""
    greedy = Sampling(temperature=0.0)
    plain = [GenerateRequest(ids=[5 + i, *range(40, 50 + 3 * i)], max_tokens=9, sampling=greedy, ignore_eos=True) for i in range(5)]  # fmt: skip
    return [
        *plain,
        GenerateRequest(ids=[7, 8, 9], max_tokens=6, n=3, sampling=Sampling(seed=4), ignore_eos=True),
        GenerateRequest(ids=[7, 8, 9], max_tokens=6, num_beams=2, sampling=greedy),
        GenerateRequest(ids=[9, 8, 7], max_tokens=8, sampling=greedy, grammar=Grammar(kind="choice", source='["cat", "mat"]')),
        GenerateRequest(ids=[9, 8, 7], max_tokens=4, sampling=Sampling(temperature=0.0, contrastive_alpha=0.5, top_k=3)),
    ]  # fmt: skip


async def ask(engine: AsyncEngine) -> list[tuple[list[int], str]]:
    """All at once; one that is refused and one that is given up among them."""
    engine.start()

    async def gone() -> None:
        async with aclosing(
            engine.stream(GenerateRequest(ids=[3, 4], max_tokens=40, ignore_eos=True))
        ) as updates:  # type: ignore[bad-argument-type]
            async for _ in updates:
                return

    leaving = asyncio.create_task(gone())
    with pytest.raises(OrreryError, match=r"empty|token"):
        await engine.complete(GenerateRequest(ids=[]))
    done = await asyncio.gather(*(engine.complete(request) for request in requests()))
    await leaving
    engine.stop()
    return [(list(c.ids), c.text) for whole in done for c in (whole, *whole.others)]


def rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    lm = LM.load(f"{folder}/model")
    ranks = Ranks(rank, 2)
    parallelise(lm.model, ranks)
    engine = Engine(lm, CONFIG)
    if rank:
        follow(engine)
        stats = engine.stats()
        assert stats.running == stats.waiting == 0
    else:
        leader = Leader(engine, ranks)
        running = AsyncEngine(cast(Engine, leader))
        answers = asyncio.run(ask(running))
        with pytest.raises(OrreryError, match="divided among ranks"):
            lm.embed([EmbedRequest(ids=[1, 2])])
        leader.end()
        stats = engine.stats()
        torch.save(answers, f"{folder}/answers.pt")
    engine.check()
    torch.save(
        [stats.steps, stats.generated_tokens, stats.preemptions, stats.prefix_hits], f"{folder}/{rank}.pt"
    )
    dist.destroy_process_group()


def test_two_ranks_answer_as_one(lm: LM, save_lm: Callable[[LM, Path], Path], tmp_path: Path) -> None:
    save_lm(lm, tmp_path / "model")
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=rank_main, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    alone = asyncio.run(ask(AsyncEngine(Engine(LM.load(tmp_path / "model"), CONFIG))))
    assert torch.load(tmp_path / "answers.pt", weights_only=True) == alone
    counts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert counts[0] == counts[1] and counts[0][1] > 0  # step for step the same
    assert ranks_of(lm.model) is None


def torchrun(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "orrery.cli",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *arguments], text=True, env=environment, stdout=subprocess.PIPE, **how)


@pytest.mark.slow
def test_generate_under_torchrun(lm: LM, save_lm: Callable[[LM, Path], Path], tmp_path: Path) -> None:
    folder = save_lm(lm, tmp_path / "model")
    run = torchrun("generate", str(folder), "--prompt", "the cat", "--temperature", "0", "--max-tokens", "12", "--ignore-eos")  # fmt: skip
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 0
    assert (
        said == "the cat" + lm.generate("the cat", temperature=0, max_tokens=12, ignore_eos=True).text + "\n"
    )


@pytest.mark.slow
def test_serve_under_torchrun(lm: LM, save_lm: Callable[[LM, Path], Path], tmp_path: Path) -> None:
    folder = save_lm(lm, tmp_path / "model")
    run = torchrun("serve", str(folder), "--port", "18431")
    url, body = "http://127.0.0.1:18431", {"prompt": "the cat", "temperature": 0, "max_tokens": 12, "ignore_eos": True}  # fmt: skip
    try:
        for _ in range(600):
            time.sleep(0.1)
            try:
                if httpx2.get(f"{url}/ready", trust_env=False).status_code == 200:
                    break
            except httpx2.HTTPError:
                continue
        answer = httpx2.post(f"{url}/v1/completions", json=body, timeout=60, trust_env=False).json()
        expected = lm.generate("the cat", temperature=0, max_tokens=12, ignore_eos=True).text
        assert answer["choices"][0]["text"] == expected
        refused = httpx2.post(f"{url}/v1/embeddings", json={"input": "the cat"}, timeout=60, trust_env=False)
        assert refused.status_code == 400 and "without torchrun" in refused.json()["error"]["message"]
        assert run.poll() is None
    finally:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
