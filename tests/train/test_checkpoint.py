"""Checkpoints: every bit comes back, every flipped bit is found, and only superfluous ones are removed."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from forge import Forge

from orrery.kit import files
from orrery.kit.errors import OrreryError
from orrery.train.checkpoint import Checkpoints, Damaged, only_one, read_checkpoint, write_checkpoint


def parts(fill: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(int(fill * 10))
    return {
        "model": {
            "a.weight": torch.randn(3, 4, generator=generator),
            "half": torch.randn(5, generator=generator).bfloat16(),
            "turned": torch.randn(2, 3, generator=generator).t(),
            "none": torch.empty(0, 4),
        },
        "optimizer": {"a.weight/step": torch.tensor(fill), "a.weight/exp_avg": torch.full((3, 4), fill)},
    }


STATE = {"step": 7, "loss": 0.1 + 0.2, "name": "ä", "list": [1, 2.5, None, True], "metric": 1.25}


def test_every_bit_comes_back(tmp_path: Path) -> None:
    before = parts()
    write_checkpoint(tmp_path / "c", tensors=before, state=STATE)
    after = read_checkpoint(tmp_path / "c")
    assert after.state == STATE
    assert after.state["loss"].hex() == (0.1 + 0.2).hex()
    assert after.tensors.keys() == before.keys()
    for name, group in before.items():
        assert after.tensors[name].keys() == group.keys()
        for key, tensor in group.items():
            assert after.tensors[name][key].dtype == tensor.dtype
            assert torch.equal(after.tensors[name][key], tensor)


def test_no_pickle_on_disk(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", tensors=parts(), state=STATE)
    names = {item.name for item in (tmp_path / "c").iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


def test_every_single_bit_flip_is_found(tmp_path: Path) -> None:
    """TR-04, exhaustively: each bit of each file of a small checkpoint."""
    write_checkpoint(tmp_path / "c", tensors={"m": {"w": torch.arange(2.0)}}, state={})
    flips = 0
    for path in sorted((tmp_path / "c").iterdir()):
        data = path.read_bytes()
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(Damaged):
                read_checkpoint(tmp_path / "c")
            flips += 1
        path.write_bytes(data)
    assert flips > 3000
    read_checkpoint(tmp_path / "c")


def test_the_damaged_file_is_named_and_the_one_before_is_used(tmp_path: Path) -> None:
    """TR-04."""
    kept = Checkpoints(tmp_path, keep_last=3)
    for step in (10, 20):
        kept.save(step, tensors=parts(step), state={"step": step})
    target = kept.path(20) / "optimizer.safetensors"
    data = bytearray(target.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 4
    target.write_bytes(data)
    found = kept.newest()
    assert found is not None and found.state["step"] == 10
    assert len(kept.found_damaged) == 1 and "step-00000020/optimizer.safetensors" in kept.found_damaged[0]
    assert kept.steps() == [10]  # the damaged one cannot be taken for good again, nor push out a good one
    assert (tmp_path / "damaged-00000020").is_dir()


@pytest.mark.parametrize("harm", ["missing file", "extra file", "truncated", "empty manifest"])
def test_other_damage(tmp_path: Path, harm: str) -> None:
    write_checkpoint(tmp_path / "c", tensors=parts(), state=STATE)
    match harm:
        case "missing file":
            (tmp_path / "c" / "model.safetensors").unlink()
        case "extra file":
            (tmp_path / "c" / "evil.bin").write_bytes(b"x")
        case "truncated":
            path = tmp_path / "c" / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-3])
        case _:
            (tmp_path / "c" / "manifest.json").write_bytes(b"")
    with pytest.raises(Damaged):
        read_checkpoint(tmp_path / "c")


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(5, tensors=parts(), state={})
    (kept.path(5) / "state.json").write_text("{}")
    with pytest.raises(OrreryError, match=r"no checkpoint in .* is whole .*state\.json"):
        kept.newest()
    assert Checkpoints(tmp_path / "nothing").newest() is None


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    for step, metric in [(1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 1.0), (6, 4.0)]:
        kept.save(step, tensors={}, state={"metric": metric})
    assert kept.steps() == [2, 5, 6]
    assert kept.best_steps() == [2, 5, 6]
    assert not list(tmp_path.glob(".*"))


class Full(files.FileOps):
    """A disk that is full from the n-th write on."""

    def __init__(self, at: int, code: int) -> None:
        self.left, self.code = at, code

    def write(self, path: Path, data: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            super().write(path, data[: len(data) // 2])
            raise OSError(
                self.code, "No space left on device" if self.code == errno.ENOSPC else "Read-only file system"
            )
        super().write(path, data)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("at", range(4))
def test_a_full_or_read_only_disk_leaves_the_old_one_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, code: int
) -> None:
    """TR-03."""
    kept = Checkpoints(tmp_path)
    kept.save(1, tensors=parts(), state={"step": 1})
    monkeypatch.setattr(files, "ops", Full(at, code))
    with pytest.raises(OrreryError, match=r"cannot write .*step-00000002"):
        kept.save(2, tensors=parts(), state={"step": 2})
    monkeypatch.undo()
    found = kept.newest()
    assert found is not None and found.state == {"step": 1} and kept.found_damaged == []
    assert [item.name for item in tmp_path.iterdir()] == ["step-00000001"]


def test_a_real_full_disk(forge: Forge, tmp_path: Path) -> None:
    """TR-03 with the system's own refusal: a limit on the size of files."""
    assert forge.run({"do": "full disk", "out": str(tmp_path / "c"), "answer": str(tmp_path / "answer")}) == 0
    sentence = (tmp_path / "answer").read_text()
    assert sentence.startswith("cannot write") and "File too large" in sentence
    kept = Checkpoints(tmp_path / "c")
    assert kept.newest() is not None and kept.steps() == [1] and kept.found_damaged == []


def test_one_trainer_a_folder(forge: Forge, tmp_path: Path) -> None:
    """TR-24: a second process is refused, and a killed one holds nothing."""
    held = forge.start({"do": "hold", "out": str(tmp_path / "run"), "answer": str(tmp_path / "answer")})
    while not (tmp_path / "answer").exists():
        time.sleep(0.01)
    with pytest.raises(OrreryError, match="another process is training"), only_one(tmp_path / "run"):
        pass
    os.kill(held, signal.SIGKILL)
    assert forge.wait(held) == -signal.SIGKILL
    with only_one(tmp_path / "run"), pytest.raises(OrreryError), only_one(tmp_path / "run"):
        pass


def test_a_replaced_checkpoint_is_the_new_one(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(3, tensors=parts(1), state={"take": 1})
    kept.save(3, tensors=parts(2), state={"take": 2})
    found = kept.newest()
    assert found is not None and found.state == {"take": 2}
    assert [item.name for item in tmp_path.iterdir()] == ["step-00000003"]
    assert json.loads((kept.path(3) / "state.json").read_text()) == {"take": 2}
