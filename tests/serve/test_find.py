"""What a person may name, and the model that is meant by it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from orrery.kit.errors import MissingExtra, OrreryError
from orrery.serve import demo
from orrery.serve.find import find_model


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_a_folder_a_file_in_it_and_a_gguf_file(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    (model / "tokenizer.json").write_text("{}")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert find_model(model) == model
    assert find_model(model / "tokenizer.json") == model
    assert find_model(tmp_path / "x.gguf") == tmp_path / "x.gguf"


def test_nothing_there_names_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        OrreryError, match=r"there is no model at '.*mode1\.gguf'.*Did you mean '.*model\.gguf'"
    ):
        find_model(tmp_path / "mode1.gguf")
    with pytest.raises(OrreryError, match=r"Did you mean 'gemma-3-270m'"):
        find_model("gemma-3-270n")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model."""
    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    cached = tmp_path / "home" / "hub" / "models--maker--tiny"
    folder(cached / "snapshots" / "0123abcd")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abcd\n")
    return cached


def test_a_hub_id_is_looked_up_in_the_cache(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model("maker/tiny") == hub / "snapshots" / "0123abcd"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(OrreryError, match="orrery downloads nothing: get it with `hf download maker/tiny`"):
        find_model("maker/tiny")


@pytest.mark.parametrize("revision", ["../../../../etc", "", "main", "0123abcd/../..", "ffff0000"])
def test_a_reference_in_the_cache_cannot_lead_out_of_it(hub: Path, revision: str) -> None:
    (hub / "refs" / "main").write_text(revision)
    with pytest.raises(OrreryError, match="no model of that name in the local Hugging Face cache"):
        find_model("maker/tiny")


@pytest.mark.parametrize("name", ["../tiny", "maker/..", "/maker/tiny", "maker/tiny/more", "-maker/tiny"])
def test_what_is_no_hub_id_is_not_looked_up(hub: Path, name: str) -> None:
    with pytest.raises(OrreryError) as caught:
        find_model(name)
    assert str(hub) not in str(caught.value)


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, digest: str) -> Path:
    """A stand-in for the package of the demo model: two parts of a file."""
    where = tmp_path / "package"
    where.mkdir()
    (where / "a.part").write_bytes(b"GGUF")
    (where / "b.part").write_bytes(b" and more")
    (where / "stand_in_for_gemma.py").write_text(
        "from pathlib import Path\n"
        f"EXPECTED_SHA256 = {digest!r}\n"
        "def chunk_paths():\n    return [Path(__file__).parent / name for name in ('a.part', 'b.part')]\n"
    )
    monkeypatch.syspath_prepend(str(where))
    monkeypatch.setattr(demo, "PACKAGE", "stand_in_for_gemma")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "stand_in_for_gemma", raising=False)
    return where


def test_a_demo_model_is_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = package(tmp_path, monkeypatch, digest=hashlib.sha256(b"GGUF and more").hexdigest())
    found = find_model("gemma-3-270m")
    assert found.read_bytes() == b"GGUF and more" and tmp_path in found.parents
    stamp = found.stat().st_mtime_ns
    assert find_model("gemma-3-270m") == found and found.stat().st_mtime_ns == stamp
    (where / "b.part").unlink()
    with pytest.raises(OrreryError, match=r"lacks '.*b\.part'; reinstall"):
        find_model("gemma-3-270m")


def test_damaged_parts_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, digest="0" * 64)
    with pytest.raises(OrreryError, match="are damaged; reinstall"):
        find_model("gemma-3-270m")
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(MissingExtra, match="demo"):
        find_model("gemma-3-270m")


def test_a_run_that_has_no_finished_model(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"stages": [{"kind": "model", "folder": "train"}]}))
    with pytest.raises(OrreryError, match="has no finished model yet"):
        find_model(tmp_path)


def test_a_run_that_names_a_folder_outside_itself_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for folder in ("../elsewhere", "/elsewhere", "a/../../elsewhere"):
        (run / "run.json").write_text(json.dumps({"stages": [{"kind": "model", "folder": folder}]}))
        with pytest.raises(OrreryError, match="lies outside the run"):
            find_model(run)
