"""Battles: who was preferred when two models answered the same prompt; read from a log, counted in a table.

A log has one JSON object a line with the keys of the LMSYS Chatbot Arena: `model_a`, `model_b` and `winner`, one of
`model_a`, `model_b`, `tie`, `tie (bothbad)`. Chiang et al. 2024, arXiv:2403.04132.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json

Winner = Literal["a", "b", "tie"]
_WINNERS: dict[str, Winner] = {
    "model_a": "a", "model_b": "b", "a": "a", "b": "b", "tie": "tie", "tie (bothbad)": "tie",
}  # fmt: skip


@dataclass(frozen=True)
class Battle:
    """Models `a` and `b` met; `winner` says which was preferred."""

    a: str
    b: str
    winner: Winner

    @property
    def score(self) -> float:
        """What `a` took of one point: 1, 0, or 0.5 for a tie."""
        return {"a": 1.0, "b": 0.0, "tie": 0.5}[self.winner]


def read_battles(path: str | Path) -> list[Battle]:
    """The battles of a log in its order.

    Raises:
        OrreryError: names the first line that is no battle.
    """
    battles = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if line.strip():
            battles.append(_battle(line, f"{path}, line {number}"))
    return battles


def models_of(battles: Iterable[Battle]) -> list[str]:
    """Everyone who met somebody, sorted by name."""
    return sorted({name for battle in battles for name in (battle.a, battle.b)})


def wins_table(battles: Sequence[Battle], models: Sequence[str]) -> NDArray[np.float64]:
    """(n, n): how many points the model of the row took from that of the column; a tie is half a point for each."""
    index = {name: i for i, name in enumerate(models)}
    table = np.zeros((len(models), len(models)))
    for battle in battles:
        i, j = index[battle.a], index[battle.b]
        table[i, j] += battle.score
        table[j, i] += 1 - battle.score
    return table


def _battle(line: bytes, where: str) -> Battle:
    try:
        row = parse_json(line)
    except JsonFault as fault:
        raise OrreryError(f"{where}: {fault}") from None
    if isinstance(row, dict):
        a, b, winner = row.get("model_a"), row.get("model_b"), row.get("winner")
        if isinstance(a, str) and isinstance(b, str) and a != b and winner in _WINNERS:
            return Battle(a, b, _WINNERS[winner])
    raise OrreryError(
        f"{where}: a battle needs two different names model_a and model_b, and a winner of {', '.join(_WINNERS)}"
    )
