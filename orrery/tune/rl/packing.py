"""From trajectories to what a pass reads: the flat axis of all written tokens, and micro-batches that each hold some episodes whole.

    axis       the tokens the model wrote, episode by episode: `owner` (T,) says which episode, `turn` (T,) which thing said
    micro      a batch of whole episodes, and where its written tokens stand in the pass (`rows`) and on the axis (`at`)

The cut into micro-batches is one for all passes of a step. A pass over the same batch gives the same bits, so before the first
update the importance ratio is exactly 1.

T written tokens of a step, R episodes, U things said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from orrery.data.batch import Batch
from orrery.kit.seeds import key
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.packed import Packed, Whole
from orrery.tune.forked import Forked, layout
from orrery.tune.rl.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Axis:
    """All written tokens of a step.

    Attributes:
        owner: (T,) the episode, turn: (T,) the thing said, numbered through, of each token.
        sampler: (T,) log-probabilities from the engine. group: (R,). turn_owner, turn_place: (U,) whose it is, and its number there.
    """

    owner: Tensor
    turn: Tensor
    sampler: Tensor
    group: Tensor
    turn_owner: Tensor
    turn_place: Tensor

    @staticmethod
    def of(trajectories: Sequence[Trajectory], device: torch.device) -> Axis:
        """Of episodes in their order."""
        turns = [(r, n, turn) for r, one in enumerate(trajectories) for n, turn in enumerate(one.turns)]
        sizes = torch.tensor([len(turn.ids) for _, _, turn in turns])
        owners = torch.tensor([r for r, _, _ in turns])
        made = {
            "owner": owners.repeat_interleave(sizes),
            "turn": torch.arange(len(turns)).repeat_interleave(sizes),
            "sampler": torch.tensor([logprob for _, _, turn in turns for logprob in turn.logprobs]),
            "group": torch.tensor([one.group for one in trajectories]),
            "turn_owner": owners,
            "turn_place": torch.tensor([n for _, n, _ in turns]),
        }
        return Axis(**{name: tensor.to(device) for name, tensor in made.items()})


@dataclass(frozen=True, kw_only=True)
class Micro:
    """Whole episodes read in one pass; what several begin with is stored once (`forked`).

    Attributes:
        batch: the stored tokens. rows: (n,) which states of the pass predict the written tokens, targets: (n,) their ids, at: (n,) where
            they stand on the axis.
        members: by episode, the stored tokens that are its own, in order.
        index, back, whole: as `forked.layout` gives them.
        choices: experts that routers are told to take, (tokens, k) by layer; empty: they choose.
    """

    batch: Batch
    rows: Tensor
    targets: Tensor
    at: Tensor
    index: Tensor
    back: Tensor
    whole: tuple[int, ...]
    members: dict[int, Tensor]
    choices: dict[nn.Module, Tensor] = field(default_factory=dict)

    def context(self, kind: type[Whole] = Packed) -> Forked | Whole:
        """What each token sees; `kind`: how the whole sequences are attended."""
        whole = kind(self.whole, device=self.batch.tokens.device)
        shares = len(self.index) > len(self.batch)
        ctx = Forked(whole, self.index, self.back, self.batch.lengths) if shares else whole
        ctx.choices = self.choices
        return ctx


def micro_batches(
    trajectories: Sequence[Trajectory], members: Sequence[int], *, tokens: int, device: torch.device, virtual: int = 0,
    share: bool = True,
) -> list[Micro]:  # fmt: skip
    """The episodes `members` in batches of at most `tokens` stored tokens each (one episode may be longer), like lengths together.

    Args:
        virtual: ids that stand before each episode for an adapter's virtual tokens.
        share: episodes of a group that begin alike are stored with one beginning.
    """
    starts = torch.tensor([0, *(len(one.written) for one in trajectories)]).cumsum(0).tolist()
    heads: dict[tuple[object, ...], list[int]] = {}
    for r in members:
        one = trajectories[r]
        heads.setdefault((one.group, one.turns[0].read) if share else (r,), []).append(r)
    parts: list[list[list[int]]] = []
    size = 0
    for group in sorted(
        heads.values(), key=lambda group: (max(len(trajectories[r].ids) for r in group), group[0])
    ):
        head = virtual + len(trajectories[group[0]].turns[0].read)
        for n, r in enumerate(group):
            more = len(trajectories[r].ids) - 1 - len(trajectories[r].turns[0].read)
            if not parts or size + more + head * (n == 0) > tokens:
                parts.append([])
                size, n = 0, 0
            if n == 0:
                parts[-1].append([])
                size += head
            parts[-1][-1].append(r)
            size += more
    return [_micro(trajectories, part, starts, device, virtual) for part in parts]


def _micro(
    trajectories: Sequence[Trajectory],
    groups: Sequence[Sequence[int]],
    starts: list[int],
    device: torch.device,
    virtual: int,
) -> Micro:
    """One pass over groups of episodes, each group with one beginning."""
    heads = [[PLACEHOLDER] * virtual + list(trajectories[group[0]].turns[0].read) for group in groups]
    ids = [[trajectories[r].ids for r in group] for group in groups]
    first = [len(trajectories[group[0]].turns[0].read) for group in groups]
    tails = [[one[n:-1] for one in group] for group, n in zip(ids, first, strict=True)]
    index, back, whole, begins = layout(
        [len(head) for head in heads], [[len(t) for t in group] for group in tails]
    )
    tokens: list[int] = []
    lengths: list[int] = []
    rows: list[int] = []
    targets: list[int] = []
    at: list[int] = []
    members: dict[int, Tensor] = {}
    begin = iter(begins)
    for group, head, n, rest in zip(groups, heads, first, tails, strict=True):
        own = torch.arange(len(tokens), len(tokens) + len(head))
        last = len(tokens) + len(head) - 1  # the state of the beginning's end predicts every first token
        tokens += [id for run in (head, *rest) for id in run]
        lengths += [len(run) for run in (head, *rest) if run]
        for r in group:
            one, tail = trajectories[r], next(begin)
            members[r] = torch.cat([own, torch.arange(tail, tail + len(one.ids) - 1 - n)]).to(device)
            rows += [last if place == n else tail + place - n - 1 for place in one.places]
            targets += one.written
            at += range(starts[r], starts[r] + len(one.written))
    batch = _batch(tokens, lengths, rows, targets)
    read, wanted, places = (torch.tensor(values, device=device) for values in (rows, targets, at))
    return Micro(
        batch=batch if device.type == "cpu" else batch.to(device), index=index.to(device), back=back.to(device), whole=tuple(whole),
        rows=read, targets=wanted, at=places, members=members,
    )  # fmt: skip


def _batch(tokens: list[int], lengths: list[int], rows: list[int], targets: list[int]) -> Batch:
    """The stored tokens; a row that predicts several shows the first."""
    shown, weights = torch.full((len(tokens),), -1), torch.zeros(len(tokens))
    shown[rows[::-1]], weights[rows] = torch.tensor(targets[::-1]), 1.0
    return Batch(tokens=torch.tensor(tokens), targets=shown, weights=weights, lengths=tuple(lengths))


def minibatches(group: Tensor, count: int, *, seed: int) -> list[list[int]]:
    """The episodes (by number) in `count` parts, groups whole and in an order drawn by `seed`; fewer parts where there are fewer groups."""
    numbers = group.unique().tolist()
    order = sorted(numbers, key=lambda g: key(seed, "minibatch", g))
    count = min(count, len(order))
    part = {g: n * count // len(order) for n, g in enumerate(order)}
    owner = group.tolist()
    return [[r for r, g in enumerate(owner) if part[g] == n] for n in range(count)]
