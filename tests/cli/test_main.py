"""The face of the command line: it answers fast, teaches, and says what to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

VERBS = [
    "quickstart",
    "run",
    "train",
    "tokenizer",
    "prepare",
    "generate",
    "chat",
    "score",
    "plan",
    "doctor",
    "explain",
    "lineage",
]


def test_help_lists_every_verb(orrery) -> None:
    done = orrery("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(orrery, verb: str) -> None:
    done = orrery(verb, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["run", "recipes/quikstart.yaml"], "Did you mean 'quickstart'"),
        (["run", "quickstart", "stages.train.modle.n_layers=2"], "Did you mean 'model'"),
        (["run", "quickstart", "stages.trian.seed=1"], "no item 'trian'"),
        (["run", "quickstart", "source.kind=file"], "Did you mean 'files'"),
        (["run", "quickstart", "stages.train.loop.optimizer.kind=adamm"], "Did you mean 'adam"),
        (["run", "quickstart", "stages.train.model.n_heads=5"], "n_heads=5"),
        (["train", "quickstart"], "orrery run quickstart"),
        (["generate", "nowhere", "--prompt", "x"], "nowhere"),
        (["score", "nowhere", "README.md"], "nowhere"),
        (["chat", "nowhere"], "nowhere"),
        (["lineage", "nowhere"], "nowhere"),
        (["plan", "nowhere"], "nowhere"),
        (["tokenizer", "report", "nowhere"], "nowhere"),
        (["tokenizer", "encode", "nowhere", "text"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_fix(orrery, arguments: list[str], message: str) -> None:
    done = orrery(*arguments)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr + done.stdout
    assert message in " ".join((done.stderr + done.stdout).replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "no text"),
        ("binary.txt", b"text\x00\x01\x02more" * 50, "binary.txt"),
        ("latin.txt", "caf\xe9 ".encode("latin-1") * 50, "latin.txt"),
        ("bad.jsonl", b'{"text": "fine"}\n{"text": \n', "bad.jsonl"),
        ("field.jsonl", b'{"body": "no such field"}\n', "body"),
        ("cut.txt.gz", b"\x1f\x8b\x08\x00\x00", "cut.txt.gz"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(60), "photo.png"),
    ],
)
def test_bad_text_is_refused_and_leaves_nothing(
    orrery, tmp_path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = orrery("quickstart", "--text", tmp_path / name, "--out", tmp_path / "run")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    left = [p.name for p in (tmp_path / "run").iterdir()] if (tmp_path / "run").exists() else []
    assert set(left) <= {".lock"}


def test_a_folder_that_cannot_be_written(orrery, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = orrery("quickstart", "--out", tmp_path / "file" / "run")
    assert done.returncode == 1
    assert "cannot write" in done.stderr and "Traceback" not in done.stderr


def test_doctor_and_version(orrery) -> None:
    done = orrery("doctor", "--quick", "--json")
    assert done.returncode == 0
    assert '"what": "torch"' in done.stdout
    assert orrery("--version").stdout.startswith("orrery ")


def test_plan_of_the_quickstart(orrery) -> None:
    done = orrery("plan", Path("recipes/quickstart.yaml"), "--flops", "1e11", "--json")
    assert done.returncode == 0, done.stderr
    assert '"kv_bytes_per_token"' in done.stdout
