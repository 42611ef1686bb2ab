"""Problems whose published answer is a worked solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orrery.evaluate.scorers.base import Unscored
from orrery.evaluate.scorers.final_answer import boxed


def math(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """MATH: `answer` is what the solution's last box holds, unless the row states one. `subject` is also called `type`."""
    answer = str(row["answer"]) if row.get("answer") is not None else boxed(str(row["solution"]))
    if answer is None:
        return Unscored("the solution has no boxed answer")
    subject = row.get("subject", row.get("type", ""))
    return {**row, "answer": answer, "subject": str(subject), "level": str(row.get("level", ""))}
