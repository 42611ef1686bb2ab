"""The metrics file survives a crash in the middle of a line."""

from __future__ import annotations

from orrery.kit.log import MetricsLog, read_jsonl


def test_lines_are_written_and_read_back(tmp_path) -> None:
    with MetricsLog(tmp_path / "deep" / "m.jsonl") as log:
        log.write({"step": 1, "loss": 2.5})
        log.write({"step": 2, "loss": 2.0})
    assert read_jsonl(tmp_path / "deep" / "m.jsonl") == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}]


def test_a_cut_last_line_is_left_out(tmp_path) -> None:
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"ste')
    assert read_jsonl(tmp_path / "m.jsonl") == [{"step": 1}]
    assert read_jsonl(tmp_path / "none.jsonl") == []
