"""Rows in files: a crash costs at most the row being written."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import RowLog, read_rows, write_rows


def test_rows_there_and_back(tmp_path: Path) -> None:
    rows = [{"a": 1}, {"b": "ü\n\u2028"}]
    write_rows(tmp_path / "x.jsonl", rows)
    assert read_rows(tmp_path / "x.jsonl") == rows
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n\n'))
    assert read_rows(tmp_path / "x.jsonl.gz") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "words"), [("{", "line 1 is no JSON"), ("{}\n[1]", "line 2 is no JSON object")]
)
def test_bad_lines_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(OrreryError, match=words):
        read_rows(tmp_path / "x.jsonl")
    with pytest.raises(OrreryError, match="cannot read"):
        read_rows(tmp_path / "none.jsonl")


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_row_cut_anywhere_is_left_out_and_the_next_one_is_not(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    log = RowLog(path)
    log.append({"n": 0})
    log.append({"n": 1})
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    log = RowLog(path)
    log.append({"n": 2})
    log.close()
    kept = [row["n"] for row in read_rows(path, torn=True)]
    row = len(b'{"n": 1}\n')  # a row without its line end is whole
    assert kept == ([0, 1, 2] if cut == 1 else [0, 2] if cut <= row + 1 else [2])


def test_half_a_character_is_kept_as_its_escape(tmp_path: Path) -> None:
    rows = [{"text": "whole \u00e9 \U0001f600"}, {"text": "half \ud83d"}]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    first, second = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert "\u00e9" in first and r"\ud83d" in second
    log = RowLog(tmp_path / "log.jsonl")
    log.append(rows[1])
    log.close()
    assert read_rows(tmp_path / "log.jsonl") == rows[1:]


def test_one_process_writes(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "log.jsonl")
    script = f"from orrery.kit.json_lines import RowLog; RowLog({str(tmp_path / 'log.jsonl')!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode and "another process is writing it" in done.stderr
    log.close()
    RowLog(tmp_path / "log.jsonl").close()


def test_a_killed_writer_loses_nothing_it_was_told_of(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    script = (
        "import itertools, sys; from orrery.kit.json_lines import RowLog\n"
        f"log = RowLog({str(path)!r})\n"
        "for n in itertools.count():\n log.append({'n': n}); print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(40)]
    process.kill()
    process.wait()
    process.stdout.close()
    assert [row["n"] for row in read_rows(path, torn=True)][: len(told)] == told
