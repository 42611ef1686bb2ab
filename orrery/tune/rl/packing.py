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
    """Whole episodes read in one pass.

    Attributes:
        rows: (n,) which states of the pass predict the written tokens; at: (n,) where these stand on the axis.
        choices: experts that routers are told to take, (tokens, k) by layer; empty: they choose.
    """

    batch: Batch
    rows: Tensor
    at: Tensor
    choices: dict[nn.Module, Tensor] = field(default_factory=dict)

    @property
    def targets(self) -> Tensor:
        """(n,) the written ids."""
        return self.batch.targets[self.rows]


def micro_batches(
    trajectories: Sequence[Trajectory],
    members: Sequence[int],
    *,
    tokens: int,
    device: torch.device,
    virtual: int = 0,
) -> list[Micro]:
    """The episodes `members` in batches of at most `tokens` tokens each (one episode may be longer), like lengths together.

    `virtual` ids stand before each episode for an adapter's virtual tokens.
    """
    ids = {r: [PLACEHOLDER] * virtual + trajectories[r].ids for r in members}
    starts = torch.tensor([0, *(len(one.written) for one in trajectories)]).cumsum(0).tolist()
    parts: list[list[int]] = []
    size = 0
    for r in sorted(members, key=lambda r: (len(ids[r]), r)):
        if not parts or size + len(ids[r]) - 1 > tokens:
            parts.append([])
            size = 0
        parts[-1].append(r)
        size += len(ids[r]) - 1
    return [_micro(trajectories, part, ids, starts, device, virtual) for part in parts]


def _micro(
    trajectories: Sequence[Trajectory],
    members: Sequence[int],
    ids: dict[int, list[int]],
    starts: list[int],
    device: torch.device,
    virtual: int,
) -> Micro:
    tokens, targets, weights, rows, at = [], [], [], [], []
    for r in members:
        begin = len(tokens)
        tokens += ids[r][:-1]
        targets += ids[r][1:]
        written = [
            virtual + place - 1 for place in trajectories[r].places
        ]  # the state before a token predicts it
        mask = [0.0] * (len(ids[r]) - 1)
        for row in written:
            mask[row] = 1.0
        weights += mask
        rows += [begin + row for row in written]
        at += range(starts[r], starts[r] + len(written))
    batch = Batch(
        tokens=torch.tensor(tokens), targets=torch.tensor(targets), weights=torch.tensor(weights),
        lengths=tuple(len(ids[r]) - 1 for r in members),
    )  # fmt: skip
    return Micro(
        batch=batch if device.type == "cpu" else batch.to(device),
        rows=torch.tensor(rows, device=device),
        at=torch.tensor(at, device=device),
    )


def minibatches(group: Tensor, count: int, *, seed: int) -> list[list[int]]:
    """The episodes (by number) in `count` parts, groups whole and in an order drawn by `seed`; fewer parts where there are fewer groups."""
    numbers = group.unique().tolist()
    order = sorted(numbers, key=lambda g: key(seed, "minibatch", g))
    count = min(count, len(order))
    part = {g: n * count // len(order) for n, g in enumerate(order)}
    owner = group.tolist()
    return [[r for r, g in enumerate(owner) if part[g] == n] for n in range(count)]
