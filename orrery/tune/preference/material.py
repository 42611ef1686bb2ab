"""All that a run of preference learning reads, made once: items to learn from by set, and held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError
from orrery.tune.examples import Renderer
from orrery.tune.preference import config as c
from orrery.tune.preference.answers import Fitted, Item, items_of, mismatched
from orrery.tune.preference.pairs import PreferenceSet, divided, read_pairs, read_thumbs
from orrery.tune.preference.records import Pair, Thumb


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """What is learned and what is measured.

    Attributes:
        parts: items to learn from, by the name of their set. heldout: of all sets together.
        shares: as the sets say; None: in proportion to their items.
        shown: a held-out comparison, to be answered as training goes on.
    """

    parts: dict[str, tuple[Item, ...]]
    heldout: tuple[Item, ...]
    shares: tuple[float, ...] | None
    shown: Pair | Thumb | None = None
    lengths: dict[str, Fitted] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What was left out or cut, in sentences."""
        lost = [f"'{name}': {text}" for name, fitted in self.lengths.items() if (text := fitted.sentence())]
        return lost + [
            f"'{name}': {count:,} rows could not be learned from and were left out"
            for name, count in self.skipped.items()
            if count
        ]

    def report(self) -> dict[str, Any]:
        """For the receipt."""
        return {
            "comparisons": {name: len(items) for name, items in self.parts.items()},
            "heldout_comparisons": len(self.heldout),
            "lengths": {name: to_dict(fitted) for name, fitted in self.lengths.items()},
            "skipped_rows": self.skipped,
        }


def gather_comparisons(
    data: Sequence[PreferenceSet], renderer: Renderer, loss: c.PreferenceLoss, loader: c.PairLoaderConfig, *, root: Path,
    heldout: float, seed: int = 0, virtual: int = 0,
) -> Comparisons:  # fmt: skip
    """Read all sets, divide and render them; for KTO as thumbs, else as pairs.

    Raises:
        OrreryError: a set that cannot be read or rendered, two of one name, shares for some sets only.
    """
    names = [cfg.called for cfg in data]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OrreryError(f"two sets of preferences are called '{twice}'; give one another name")
    given = [cfg.share for cfg in data if cfg.share is not None]
    if given and len(given) < len(data):
        raise OrreryError(
            "some sets of preferences have a share and others none; give all of `data` one, or none"
        )
    thumbs = isinstance(loss, c.Kto)
    parts: dict[str, tuple[Item, ...]] = {}
    apart: list[Item] = []
    lengths: dict[str, Fitted] = {}
    skipped: dict[str, int] = {}
    shown: Pair | Thumb | None = None
    context = loader.context - virtual
    for cfg in data:
        reasons: list[str] = []
        read = read_thumbs if thumbs else read_pairs
        sides = divided(read(cfg, root, seed=seed, reasons=reasons), heldout=heldout, seed=seed)
        skipped[cfg.called], lengths[cfg.called] = len(reasons), Fitted(context=context, policy=loader.long)
        parts[cfg.called] = tuple(items_of(sides.train, renderer, lengths[cfg.called]))
        fitted = Fitted(context=context, policy="drop" if loader.long == "error" else loader.long)
        apart += items_of(sides.heldout, renderer, fitted)
        shown = shown or next(iter(sides.heldout), None)
        if not parts[cfg.called]:
            raise OrreryError(
                f"nothing of the set '{cfg.called}' is left to learn from ({lengths[cfg.called].sentence() or 'no row'}); raise loader.context"
            )
    if thumbs:
        parts = {name: tuple(mismatched(items, context=context, seed=seed)) for name, items in parts.items()}
        apart = (
            mismatched(apart, context=context, seed=seed) if len({item.head for item in apart}) > 1 else []
        )
    return Comparisons(
        parts=parts,
        heldout=tuple(apart),
        shares=tuple(given) or None,
        shown=shown,
        lengths=lengths,
        skipped=skipped,
    )
