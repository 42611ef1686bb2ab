"""Comparisons for the small model of the exhibits, which was taught a right and a wrong answer to every question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orrery.evaluate import generators
from orrery.glossary.exhibits._choosing import Start, loop, taught
from orrery.kit.config import resolve
from orrery.serve.lm import LM
from orrery.train.config import TrainConfig
from orrery.tune.examples import Renderer
from orrery.tune.preference.config import PreferenceConfig
from orrery.tune.preference.material import Comparisons, gather_comparisons
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.preference.trainer import Preferred, prefer

__all__ = ["LOOP", "Start", "asked", "comparisons", "config", "run", "taught", "win_rate", "write_pairs"]
LOOP = loop(25)


def asked(n: int = 120) -> list[dict[str, Any]]:
    """Questions with a right answer (in capitals) and a wrong one (in small letters)."""
    rows = generators.rows("python_expression", n=n, seed=5, difficulty=1, split="train", kinds=["upper"])
    return [{"prompt": r["question"], "chosen": r["answer"], "rejected": r["answer"].lower()} for r in rows]


def write_pairs(folder: Path, n: int = 120) -> PreferenceSet:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in asked(n)))
    return PreferenceSet(paths=(str(path),))


def config(**changes: Any) -> PreferenceConfig:
    return resolve(PreferenceConfig, {"loader": {"context": 64, "pairs": 8}, **changes})


def comparisons(
    start: Start, folder: Path, cfg: PreferenceConfig, *, heldout: float = 0.2, virtual: int = 0
) -> Comparisons:
    renderer = Renderer(tokenizer=start.tokenizer, chat=start.chat)
    return gather_comparisons(
        [write_pairs(folder)], renderer, cfg.loss, cfg.loader, root=folder, heldout=heldout, virtual=virtual
    )


def run(
    start: Start,
    out: Path,
    cfg: PreferenceConfig,
    loop: TrainConfig = LOOP,
    lm: LM | None = None,
    **more: Any,
) -> Preferred:
    found = comparisons(start, out.parent / "data", cfg, virtual=more.get("virtual", 0))
    return prefer(cfg, loop, lm=lm or start.lm(), comparisons=found, out=out, **more)


def win_rate(one: LM, other: LM, n: int = 40) -> float:
    """How often a judge who likes capitals prefers what `one` says over what `other` says; a tie counts a half."""
    wins = 0.0
    for number, row in enumerate(asked(160)[120 : 120 + n]):
        said = [_said(lm, row["prompt"], number) for lm in (one, other)]
        liked = [sum(c.isupper() for c in text) / max(1, sum(c.isalpha() for c in text)) for text in said]
        wins += 0.5 if liked[0] == liked[1] else float(liked[0] > liked[1])
    return wins / n


def _said(lm: LM, question: str, seed: int) -> str:
    assert lm.chat is not None
    return lm.generate(
        lm.chat.prompt([{"role": "user", "content": question}]), max_tokens=8, temperature=1.0, seed=seed
    ).text
