"""A log of thumbs, up and down, as an application collects them; `read_thumbs` reads it for KTO.

    {"prompt": [messages], "completion": "...", "label": true, "when": "2025-01-31T12:00:00+00:00", ...}

One JSON object a line, appended whole, so that several writers and a crash leave only whole lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orrery.tune.preference.pair_shapes import records_of
from orrery.tune.rows import Row


def log_thumb(
    path: str | Path, *, messages: Sequence[Mapping[str, Any]], answer: str, up: bool, **about: Any
) -> None:
    """Append one judgement.

    Args:
        messages: what the answer answers. about: anything JSON-able to be kept beside it (model, user, seconds ...).

    Raises:
        OrreryError: it could not be learned from, such as an empty answer.
    """
    path = Path(path)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    row = {"prompt": [dict(m) for m in messages], "completion": answer, "label": up, "when": when, **about}
    records_of(Row(f"'{path}'", row), "thumbs")
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, line)
    finally:
        os.close(handle)
