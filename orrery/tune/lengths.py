"""Examples longer than a row, by a named policy, with an account of everything that is lost.

    error   refuse, naming the row         drop    leave the example out
    left    keep the end                   right   keep the beginning
    split   cut into pieces; each predicts on from where the one before stopped, so no target is lost, but context is

A row of `context` positions reads that many ids and predicts as many, so an example of context + 1 ids fits. What is left of an
example may hold nothing to learn; then it goes too, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orrery.kit.errors import OrreryError
from orrery.text.truncation import Policy, truncate
from orrery.tune.examples import Example


@dataclass
class LengthAccount:
    """What a policy did to a set of examples. `supervised` counts targets with weight."""

    policy: Policy
    context: int
    examples: int = 0
    tokens: int = 0
    supervised: int = 0
    longest: int = 0
    too_long: int = 0
    emptied: int = 0
    pieces: int = 0
    lost_tokens: int = 0
    lost_supervised: int = 0
    lost_rows: list[str] = field(default_factory=list)
    """Places of the first examples that lost targets."""

    def sentence(self) -> str:
        """What was lost, for a person; empty where nothing was."""
        if not self.lost_supervised and not self.emptied:
            return ""
        return (
            f"{self.too_long:,} of {self.examples:,} examples are longer than {self.context} tokens (the longest {self.longest:,}); "
            f"'{self.policy}' lost {self.lost_supervised:,} of {self.supervised:,} supervised tokens, {self.emptied:,} examples whole"
        )


def fit(example: Example, account: LengthAccount) -> list[Example]:
    """The example as it fits into `account.context` positions, by `account.policy`; what is lost is counted there.

    Raises:
        OrreryError: it does not fit and the policy is "error".
    """
    context, policy = account.context, account.policy
    positions, supervised = len(example.ids) - 1, example.supervised
    account.examples += 1
    account.tokens += len(example.ids)
    account.supervised += supervised
    account.longest = max(account.longest, len(example.ids))
    if positions <= context:
        account.pieces += 1
        return [example]
    account.too_long += 1
    if policy == "error":
        raise OrreryError(
            f"{example.where}: {len(example.ids):,} tokens do not fit into a row of {context}; raise loader.context, or choose what to "
            "do by loader.long: drop, split, left or right"
        )
    cut = truncate(positions, context, policy)
    parts = [
        Example(example.ids[start : stop + 1], (0.0, *example.weights[start + 1 : stop + 1]), example.where)
        for start, stop in cut.kept
    ]
    kept = [part for part in parts if part.supervised]
    account.pieces += len(kept)
    account.emptied += not kept
    account.lost_tokens += len(example.ids) - sum(len(part.ids) - 1 for part in kept) - bool(kept)
    lost = supervised - sum(part.supervised for part in kept)
    account.lost_supervised += lost
    if lost and len(account.lost_rows) < 5:
        account.lost_rows.append(example.where)
    return kept
