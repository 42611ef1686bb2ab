"""Choosing and compiling the kernel: every way in which it can fail leads to the next one, with one clear sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model.lowbit import build, choice, native
from orrery.model.lowbit.kinds import KINDS
from tests.model.lowbit.rows import activations, weights

HERE = "import sys; from orrery.model.lowbit import build; print(build.library()._name)"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("ORRERY_LOWBIT", "ORRERY_LOWBIT_MARCH"):
        monkeypatch.delenv(name, raising=False)

    def forget() -> None:
        choice.backend_report.cache_clear()
        native.load.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture(scope="session")
def compiled() -> Path:
    try:
        return Path(native.load()._name)
    except build.BuildError as error:
        pytest.skip(f"the kernel cannot be compiled here: {error}")


@pytest.fixture
def copier(tmp_path: Path, compiled: Path) -> Path:
    """A 'compiler' that hands out the library that is already there, and counts how often it did."""
    script = tmp_path / "copier"
    script.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo copier 1; exit; fi\n'
        f'while [ "$1" != -o ]; do shift; done; sleep 0.2; cp "{compiled}" "$2"; echo made >> "{tmp_path}/count"\n'
    )
    script.chmod(0o755)
    return script


def _made(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text().split())


def test_compiled_once_for_each_user(tmp_path: Path, copier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(copier))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = build.library()
    assert build.library()._name == first._name and _made(tmp_path) == 1
    folder = build.cache_folder()
    assert [p.name for p in folder.iterdir()] == [Path(first._name).name]
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("ORRERY_LOWBIT_MARCH", "another")  # other flags, another file
    assert build.library()._name != first._name and _made(tmp_path) == 2


def test_a_damaged_library_is_made_again(
    tmp_path: Path, copier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(copier))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = Path(
        subprocess.run(
            [sys.executable, "-c", HERE], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    path.write_bytes(b"half a file")
    build.library()
    assert _made(tmp_path) == 2 and path.stat().st_size > 10_000


def test_two_processes_at_once(tmp_path: Path, copier: Path) -> None:
    env = os.environ | {"CXX": str(copier), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    both = [
        subprocess.Popen([sys.executable, "-c", HERE], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    names = {process.communicate(timeout=60)[0].strip() for process in both}
    assert len(names) == 1 and all(process.returncode == 0 for process in both)
    assert [str(p) for p in Path(names.pop()).parent.iterdir()] == [
        str(next(Path(tmp_path).rglob("kernel-*.so")))
    ]


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    report = choice.backend_report()
    assert report.backend in ("numba", "torch")
    assert "no C++ compiler found (looked for c++, g++, clang++)" in report.reason
    assert choice.backend() == report.backend and str(report).startswith(
        f"low-bit products by {report.backend}"
    )


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "failing"
    script.write_text("#!/bin/sh\necho 'kernel.cpp:1: error: no such header' >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "failed: kernel.cpp:1: error: no such header" in choice.backend_report().reason
    assert not list(build.cache_folder().iterdir())


def test_nowhere_to_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "cannot be made" in choice.backend_report().reason


def test_a_folder_open_to_others_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.cache_folder().chmod(0o777)
    assert "can be written to by other users" in choice.backend_report().reason


def test_asking_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORRERY_LOWBIT", "torch")
    assert choice.backend_report().reason == "asked for by ORRERY_LOWBIT"
    choice.backend_report.cache_clear()
    monkeypatch.setenv("ORRERY_LOWBIT", "tortch")
    with pytest.raises(OrreryError, match="Did you mean 'torch'"):
        choice.backend()
    monkeypatch.setenv("ORRERY_LOWBIT", "c++")
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(OrreryError, match="asks for c\\+\\+, but"):
        choice.backend()


def _runs_here(features: str) -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return all(feature in flags for feature in features.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("march", "isa", "needs"),
    [
        ("x86-64", "plain", "sse2"),
        ("x86-64-v3", "avx2", "avx2 fma f16c"),
        ("-march=x86-64-v3 -mavx512f -mavx512vl -mavx512vnni", "avx2-vnni", "avx512vl avx512_vnni"),
        ("-march=x86-64-v4 -mavx512vnni", "avx512-vnni", "avx512bw avx512vl avx512_vnni"),
    ],
)
def test_instruction_sets_agree_bit_for_bit(
    march: str, isa: str, needs: str, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against this machine's own version and torch: whole sums, one order, one fused addition each."""
    if not _runs_here(needs):
        pytest.skip(f"this processor lacks one of: {needs}")
    own = native.load()
    monkeypatch.setenv("ORRERY_LOWBIT_MARCH", march)
    other = native.declare(build.library())
    assert other.orrery_isa().decode() == isa
    for kind in KINDS:
        raw, w = weights(kind, 45, 768)
        x = activations(23, 768)
        a, b = (native.NativeMatrix(raw, kind, lib) for lib in (own, other))
        assert torch.equal(a.multiply(x), b.multiply(x)), kind
        assert torch.equal(a.multiply(x[:1]), b.multiply(x)[:1]), kind
        assert torch.equal(a.multiply(x, 2), b.multiply(x, 2)), kind
        assert torch.equal(b.rows(torch.arange(45)), w), kind


@pytest.mark.slow
def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ on this machine")
    command = [
        "g++",
        *build.FLAGS[:-1],
        "-Wall",
        "-Wextra",
        "-Wno-maybe-uninitialized",
        *build.machine_flags(),
    ]
    done = subprocess.run(
        [*command, str(build.SOURCE), "-o", str(tmp_path / "k.so")], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr
