"""Two processes on gloo train as one does: the same documents, the same weights within rounding, the same decisions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_run import MOE, TinyLoader, config, drawn, go

from orrery.kit.errors import OrreryError
from orrery.train.checkpoint import Checkpoints
from orrery.train.journal import read_journal
from orrery.train.signals import Interrupted

HERE = Path(__file__).resolve().parent


def rank_main(job: dict[str, Any], rank: int) -> int:
    """What one of the two processes does."""
    import torch.distributed as dist

    from orrery.train import step as step_module

    dist.init_process_group("gloo", init_method=f"file://{job['store']}", rank=rank, world_size=2)
    out = Path(job["out"])

    class Loader(TinyLoader):
        def batch(self, step: int, micro: int = 0) -> Any:
            if rank == 1 and job.get("signal_in_step") == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(step, micro)

    if rank == 1 and "nan_in_step" in job:
        compute, backward = step_module.compute, step_module.forward_backward
        current = {"step": -1}

        def poisoned(*args: Any, **kwargs: Any) -> Any:
            loss = compute(*args, **kwargs)
            return step_module.replace_sum(loss) if current["step"] == job["nan_in_step"] else loss

        def remember(setup: Any, batches: Any, step: int, scaler: Any) -> Any:
            current["step"] = step
            return backward(setup, batches, step, scaler)

        from orrery.train import loop
        from orrery.train.loss import Loss

        step_module.replace_sum = lambda loss: Loss(loss.sum * float("nan"), loss.weight, loss.stats)  # type: ignore[attr-defined]
        step_module.compute, loop.forward_backward = poisoned, remember
    loader = Loader(rows=2, rank=rank, world=2, witness=out.with_suffix(f".{rank}"))
    try:
        go(out, config(**job["config"]), model=MOE, loader=loader)
    except Interrupted:
        return 130
    finally:
        dist.destroy_process_group()
    return 0


def two_ranks(folder: Path, out: Path, **job: Any) -> list[int]:
    """Run both and return their exit statuses."""
    store = folder / f"store-{len(list(folder.glob('store-*')))}"
    script = f"""
import json, sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
import torch
torch.set_num_threads(1)
from test_world import rank_main
sys.exit(rank_main(json.loads(sys.argv[1]), int(sys.argv[2])))
"""
    message = json.dumps(
        {
            "out": str(out),
            "store": str(store),
            "config": {"steps": 12, "sample_every": 4, "validate_every": 6},
            **job,
        }
    )
    ranks = [subprocess.Popen([sys.executable, "-c", script, message, str(rank)]) for rank in (0, 1)]
    try:
        return [rank.wait(300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def alone(out: Path, **more: Any) -> None:
    go(
        out,
        config(steps=12, sample_every=4, validate_every=6),
        model=MOE,
        loader=TinyLoader(rows=2, micro_batches=2, **more),
    )


def weights(out: Path) -> dict[str, torch.Tensor]:
    return Checkpoints(out / "checkpoints").load(12).tensors["model"]


def assert_close(one: Path, two: Path) -> None:
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name] - b[name]).abs().max().item() < 1e-6
    for x, y in zip(read_journal(one / "metrics.jsonl"), read_journal(two / "metrics.jsonl"), strict=True):
        assert (
            x["loss"] == pytest.approx(y["loss"], rel=1e-6)
            and x["tokens"] == y["tokens"]
            and x["lr"] == y["lr"]
        )


@pytest.mark.slow
def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    """Also the routing bias of a mixture of experts, which depends on the load of both."""
    alone(tmp_path / "one", witness=tmp_path / "w")
    assert two_ranks(tmp_path, tmp_path / "two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")
    both = {
        (step, rank): s
        for rank in (0, 1)
        for (step, _), s in drawn((tmp_path / "two").with_suffix(f".{rank}")).items()
    }
    assert both == drawn(tmp_path / "w")  # micro-batch m of one process is rank m of two


@pytest.mark.slow
def test_a_stop_on_one_rank_stops_both_and_the_world_may_change(tmp_path: Path) -> None:
    """TR-08: 2 -> 1 -> 2 ranks, each time at a step border, the same global order of samples."""
    alone(tmp_path / "one")
    out = tmp_path / "changing"
    assert two_ranks(tmp_path, out, signal_in_step=3) == [130, 130]
    assert Checkpoints(out / "checkpoints").steps()[-1] in (
        4,
        5,
    )  # a signal during the exchange counts in the next step

    class Bell(TinyLoader):
        def batch(self, step: int, micro: int = 0) -> Any:
            if (step, micro) == (8, 0):
                os.kill(os.getpid(), signal.SIGINT)
            return super().batch(step, micro)

    with pytest.raises(Interrupted):
        go(
            out,
            config(steps=12, sample_every=4, validate_every=6),
            model=MOE,
            loader=Bell(rows=2, micro_batches=2),
        )
    assert two_ranks(tmp_path, out) == [0, 0]
    assert_close(tmp_path / "one", out)


@pytest.mark.slow
def test_a_nan_on_one_rank_is_skipped_by_both(tmp_path: Path) -> None:
    """TR-12."""
    out = tmp_path / "two"
    assert two_ranks(tmp_path, out, nan_in_step=5) == [0, 0]
    assert [(e["step"], e["why"]) for e in read_journal(out / "events.jsonl") if e["event"] == "skipped"] == [
        (5, "non-finite loss")
    ]
    assert all(torch.isfinite(t).all() for t in weights(out).values())


def test_a_loader_for_another_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="rank 1 of 2 and this process is rank 0 of 1"):
        go(tmp_path, loader=TinyLoader(rank=1, world=2))
