"""SB-40: where no sandbox can be built nothing is run, and the reason and the fix are said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orrery.kit.sandbox import Sandbox, SandboxUnavailable, bubblewrap, landlock, policy


def test_both_missing_is_a_refusal_with_both_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: None)
    monkeypatch.setattr(landlock, "landlock_version", lambda: 0)
    with pytest.raises(SandboxUnavailable) as refused:
        Sandbox.open()
    said = str(refused.value)
    assert "generated code is not run" in said
    assert "apt-get install bubblewrap" in said and "no Landlock" in said and "5.13" in said


def test_without_bubblewrap_landlock_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: None)
    with pytest.raises(SandboxUnavailable, match="the program bwrap is not there"):
        Sandbox.open("bubblewrap")
    try:
        assert Sandbox.open().kind == "landlock"
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def test_a_bubblewrap_that_may_not_make_namespaces_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: str(fake))
    with pytest.raises(SandboxUnavailable, match="No permissions to create a new namespace"):
        Sandbox.open("bubblewrap")


def test_a_jail_that_breaks_later_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        sandbox = Sandbox.open("bubblewrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    monkeypatch.setattr(sandbox._backend, "_program", "/bin/false")
    for attempt in (lambda: sandbox.run("print(1)"), lambda: sandbox.run_tests("x = 1", "assert x == 1")):
        with pytest.raises(SandboxUnavailable, match="did not start"):
            attempt()


def test_a_machine_without_a_filter_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy.platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(subprocess, "Popen", _never)
    found = bubblewrap.Interpreter(Path("/python"), Path("/"), Path("/"), "")
    for kind in (bubblewrap.Bubblewrap, landlock.Landlock):
        monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: "/usr/bin/bwrap")
        with pytest.raises(SandboxUnavailable, match="x86_64 and aarch64"):
            kind(found)


def _never(*given: object, **named: object) -> None:
    raise AssertionError("a program was started")
