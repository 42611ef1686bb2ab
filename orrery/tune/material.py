"""All that a run of tuning reads, made once: the loader of what is learned, and held-out examples of every set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orrery.data.batch import Batch
from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError
from orrery.tune.dataset import SetConfig, Split, read_set, render_set, rendered
from orrery.tune.dialogue import Sample
from orrery.tune.example_set import ExampleSet
from orrery.tune.examples import Example, Renderer
from orrery.tune.lengths import LengthAccount
from orrery.tune.loader import ExampleLoader, ExampleLoaderConfig
from orrery.tune.measure import batches_of

EVAL_POSITIONS = 4096


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is learned and what is measured.

    Attributes:
        heldout: batches by the name of their set; empty for a set of which nothing is held out.
        learned: the sets that are trained on (a validation is of these).
        shown: a held-out sample to be answered as training goes on.
    """

    loader: ExampleLoader
    heldout: dict[str, list[Batch]]
    learned: tuple[str, ...]
    shown: Sample | None
    accounts: dict[str, LengthAccount] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def validation_batches(self) -> list[Batch]:
        """Held-out batches of what is learned."""
        return [batch for name in self.learned for batch in self.heldout.get(name, [])]

    def notes(self) -> list[str]:
        """What was left out or cut, in sentences."""
        lost = [
            f"'{name}': {text}" for name, account in self.accounts.items() if (text := account.sentence())
        ]
        return lost + [
            f"'{name}': {count:,} rows could not be taught and were left out"
            for name, count in self.skipped.items()
            if count
        ]

    def report(self, steps: int) -> dict[str, Any]:
        """For the receipt: what each set gave in the first `steps` steps, and what lengths cost."""
        drawn = self.loader.drawn(steps)
        return {
            "sets": [to_dict(part) for part in drawn],
            "supervised": sum(part.supervised for part in drawn),
            "fill": self.loader.fill,
            "lengths": {name: to_dict(account) for name, account in self.accounts.items()},
            "skipped_rows": self.skipped,
        }


def gather(
    data: Sequence[SetConfig], renderer: Renderer, loader: ExampleLoaderConfig, *, root: Path, parts: Split,
    replay: Sequence[SetConfig] = (), replay_share: float = 0.0, watch: Sequence[SetConfig] = (), validation_tokens: int = 8_000,
    placeholders: int = 0,
) -> Material:  # fmt: skip
    """Read all sets, render them, and put the loader together.

    Raises:
        OrreryError: a set that cannot be read or taught, two of one name, shares for some sets only.
    """
    names = [cfg.called for cfg in (*data, *replay, *watch)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OrreryError(f"two sets of examples are called '{twice}'; give one another name")
    sets: list[ExampleSet] = []
    accounts: dict[str, LengthAccount] = {}
    skipped: dict[str, int] = {}
    heldout: dict[str, list[Batch]] = {}
    shown: Sample | None = None
    for number, cfg in enumerate((*data, *replay, *watch)):
        learns = number < len(data) + len(replay)
        samples = read_set(cfg, root=root, parts=parts)
        skipped[samples.name] = samples.skipped
        shown = shown or next(iter(samples.heldout), None)
        if learns:
            made, accounts[samples.name] = render_set(
                samples.train,
                renderer,
                name=samples.name,
                context=loader.context,
                policy=loader.long,
                placeholders=placeholders,
            )
            sets.append(made)
        asked = samples.heldout if learns else (*samples.heldout, *samples.train)
        account = LengthAccount(policy="right", context=loader.context - placeholders)
        fitting = list(rendered(asked, renderer, account, placeholders=placeholders))
        heldout[samples.name] = _batches(samples.name, fitting, most=validation_tokens)
    return Material(
        loader=ExampleLoader(sets, loader, shares=_shares(data, replay, replay_share, sets)),
        heldout=heldout, learned=tuple(cfg.called for cfg in data), shown=shown, accounts=accounts, skipped=skipped,
    )  # fmt: skip


def _batches(name: str, examples: Sequence[Example], *, most: int) -> list[Batch]:
    """Held-out examples up to so many supervised tokens; none where none fits."""
    if not examples:
        return []
    return list(batches_of(ExampleSet.of(examples, name=name), positions=EVAL_POSITIONS, most=most))


def _shares(
    data: Sequence[SetConfig], replay: Sequence[SetConfig], replay_share: float, sets: Sequence[ExampleSet]
) -> list[float] | None:
    """The shares of rows: those given, else in proportion to what sets hold; replayed sets divide theirs."""
    given = [cfg.share for cfg in data]
    if any(share is None for share in given) and any(share is not None for share in given):
        raise OrreryError(
            "some sets of examples have a share and others none; give all of `data` one, or none"
        )
    sizes = [int(part.lengths().sum()) for part in sets]
    if not replay:
        return None if None in given else [float(share or 0) for share in given]
    new = [
        float(share) if share is not None else float(size) for share, size in zip(given, sizes, strict=False)
    ]
    old = [cfg.share or float(size) for cfg, size in zip(replay, sizes[len(data) :], strict=True)]
    parts = [(new, 1 - replay_share), (old, replay_share)]
    return [part * share / sum(group) for group, part in parts for share in group]
