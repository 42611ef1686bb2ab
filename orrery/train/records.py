"""What a run writes for people and programs: metrics, events and samples as journals, a tracker, and plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orrery.data.batch import Batch
from orrery.kit.log import console
from orrery.train.journal import Journal
from orrery.train.tracker import Tracker


class Records:
    """The three journals of a run folder. Only the first rank writes; the others' calls do nothing.

    Args:
        step: steps done; lines of later steps are dropped from the journals.
        tracker: gets the lines of metrics.jsonl too.
    """

    def __init__(self, out: Path, *, step: int, writes: bool, tracker: Tracker | None) -> None:
        self.tracker = tracker
        after = {
            "metrics": step,
            "events": step,
            "samples": step + 1,
        }  # a sample's step is the number of steps done
        self._journals = {
            name: Journal(out / f"{name}.jsonl", resume_at=at) for name, at in after.items() if writes
        }

    def metrics(self, step: int, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        self._write("metrics", {"step": step, **line})
        if self.tracker and self._journals:
            self.tracker.log(line, step)

    def event(self, step: int, kind: str, *, say: str | None = None, **fields: Any) -> None:
        """A line of events.jsonl, and a sentence to the person if there is one."""
        self._write("events", {"step": step, "event": kind, **fields})
        if say and self._journals:
            tell(say)

    def sample(self, step: int, text: str) -> None:
        """A line of samples.jsonl, after `step` steps."""
        self._write("samples", {"step": step, "text": text})

    def make_durable(self) -> None:
        """Wait until the disk has every line: a checkpoint's lines must be there before the checkpoint is."""
        for journal in self._journals.values():
            journal.flush(durable=True)

    def close(self) -> None:
        """Write what is pending and let go of the files."""
        for journal in self._journals.values():
            journal.close()
            if journal.failed:
                tell(f"the last lines of '{journal.path}' could not be written: {journal.failed}")
        if self.tracker:
            self.tracker.close()

    def _write(self, name: str, record: dict[str, Any]) -> None:
        if self._journals:
            self._journals[name].write(record)


def tell(text: str) -> None:
    """A sentence to the person."""
    console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def documents(batches: Sequence[Batch]) -> list[list[int]]:
    """[corpus, document, first token, tokens] of every piece of the batches."""
    return [[p.corpus, p.document, p.start, p.length] for batch in batches for p in batch.pieces]
