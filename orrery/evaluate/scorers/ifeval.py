"""IFEval's four numbers: instructions followed, strictly and loosely, by prompt and by instruction (Zhou et al. 2023, section 2.2).

A prompt counts as followed when all of its instructions are. Loose: any of eight versions of the response follows - with and without
its first line, its last line (a "Sure, here it is:"), and asterisks (markdown).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext, Weighted
from orrery.evaluate.scorers.instructions import follows


def versions(response: str) -> list[str]:
    """The response, without its first line, without its last, without both; and these four without asterisks."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return cut + [text.replace("*", "") for text in cut]


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float]:
    """prompt_strict, prompt_loose: 1 if every instruction of the row is followed; instruction_strict, instruction_loose: the share
    followed, weighted by their number, so that the mean over rows is the share of all instructions. Nothing follows from silence.
    """
    tasks = list(zip(row["instruction_id_list"], row["kwargs"], strict=True))

    def followed(texts: list[str]) -> list[bool]:
        return [any(text.strip() and follows(name, kwargs, text) for text in texts) for name, kwargs in tasks]

    strict, loose = followed([answer]), followed(versions(answer))
    return {
        "prompt_strict": float(all(strict)),
        "instruction_strict": Weighted(sum(strict) / len(tasks), len(tasks)),
        "prompt_loose": float(all(loose)),
        "instruction_loose": Weighted(sum(loose) / len(tasks), len(tasks)),
    }
