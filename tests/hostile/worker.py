"""The forge of the case table: imports all of orrery once, warms up on valid files, then forks a child for every file."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.hostile import jail, seeds
from tests.hostile.openers import OPENERS


def warm() -> None:
    """Open one valid file of each kind, so that what a case costs is what the case costs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = seeds.model_folder(folder / "model")
        (folder / "r.yaml").write_text(seeds.RECIPE)
        (folder / "x.jsonl").write_text('{"text": "a"}\n')
        pq.write_table(pa.table({"text": ["a"]}), folder / "x.parquet")
        for opener, path in (
            ("model", model), ("model", seeds.sharded_folder(folder / "sharded")), ("tokenizer", model), ("recipe", folder / "r.yaml"),
            ("source", folder / "x.jsonl"), ("source", folder / "x.parquet"), ("shards", seeds.shard_folder(folder / "data")),
            ("checkpoint", seeds.checkpoint_folder(folder / "run")),
        ):  # fmt: skip
            OPENERS[opener](path)


def child(question: dict[str, Any]) -> dict[str, Any]:
    """In the child: limits, audit hook, open."""
    folder = Path(question["folder"])
    os.chdir(folder)
    watch = jail.Watch()
    jail.limit()
    return asdict(jail.measured(lambda: OPENERS[question["opener"]](Path(question["path"])), watch, folder))


if __name__ == "__main__":
    warm()
    jail.serve(int(sys.argv[1]), child)
    os._exit(0)  # libraries with threads may wait for them at a usual end
