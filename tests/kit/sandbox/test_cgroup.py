"""Control groups of both versions, written into a folder that stands for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.kit.sandbox import Limits, Sandbox, SandboxUnavailable, cgroup

LIMITS = Limits(memory=100, disk=20, processes=5)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new group's folder has files at once, and can be removed with them."""
    files = {
        "pids": ("pids.max",), "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
        "two": ("pids.max", "memory.max", "memory.swap.max", "memory.events"),
    }  # fmt: skip
    make, remove = Path.mkdir, Path.rmdir

    def mkdir(self: Path, *given: object, **named: object) -> None:
        make(self)
        for name in (
            *files.get(self.parent.parent.name, files["two"] if "v2" in self.parts else ()),
            "cgroup.procs",
        ):
            (self / name).write_text("")

    def rmdir(self: Path) -> None:
        for file in self.iterdir():
            file.unlink()
        remove(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)


def test_version_1_has_a_tree_a_controller(tmp_path: Path, kernel: None) -> None:
    import os

    for folder in ("pids/p", "memory/m"):
        os.makedirs(tmp_path / folder)
    own = "8:pids:/p\n4:memory:/m\n1:cpu:/\n0::/\n"
    found = cgroup.places(tmp_path, own)
    assert found == (tmp_path / "pids/p", tmp_path / "memory/m")
    group = cgroup.open_group(found, LIMITS)
    assert group is not None
    pids, memory = group.folders
    assert (pids / "pids.max").read_text() == "8"
    assert (
        (memory / "memory.limit_in_bytes").read_text()
        == (memory / "memory.memsw.limit_in_bytes").read_text()
        == "120"
    )
    group.add([77])
    assert (pids / "cgroup.procs").read_text() == (memory / "cgroup.procs").read_text() == "77"
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert not group.out_of_memory()
    (memory / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert group.out_of_memory()
    group.remove()
    assert not pids.exists() and not memory.exists()


def test_version_2_has_one_tree(tmp_path: Path, kernel: None) -> None:
    import os

    os.makedirs(tmp_path / "v2/user")
    found = cgroup.places(tmp_path / "v2", "0::/user\n")
    assert found == (tmp_path / "v2/user",)
    group = cgroup.open_group(found, LIMITS)
    assert group is not None
    (folder,) = group.folders
    assert {name: (folder / name).read_text() for name in ("pids.max", "memory.max", "memory.swap.max")} == {
        "pids.max": "8", "memory.max": "120", "memory.swap.max": "0",
    }  # fmt: skip
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n")
    assert group.out_of_memory()
    group.remove()


def test_where_none_can_be_made_there_is_none(tmp_path: Path) -> None:
    assert cgroup.places(tmp_path, "0::/nowhere\n") == ()
    assert cgroup.open_group((), LIMITS) is None
    (tmp_path / "bare").mkdir()
    assert cgroup.places(tmp_path, "0::/bare\n") == ()  # a folder made there has no limits to write


def test_without_a_group_the_limits_of_each_process_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orrery.kit.sandbox.sandbox.places", lambda: ())
    try:
        sandbox = Sandbox.open()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    assert not sandbox.grouped
    forks = "import os, time\ndef f():\n    n = 0\n    while True:\n        try:\n            if os.fork() == 0: time.sleep(60)\n"
    forks += "        except OSError: return n\n        n += 1\n"
    outcome = sandbox.run(forks, call="f", limits=Limits(processes=12, seconds=30.0))
    assert outcome.status == "ok" and 4 <= outcome.value <= 12
    spread = "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = bytearray(b'x') * (50 << 20)\n        time.sleep(60)\n"
    outcome = sandbox.run(
        spread + "time.sleep(60)", limits=Limits(memory=128 << 20, disk=1 << 20, seconds=60.0)
    )
    assert outcome.status == "memory" and "together" in outcome.detail
