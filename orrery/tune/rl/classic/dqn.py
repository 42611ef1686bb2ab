"""A deep Q-network: Q-learning where states are too many for a table.

    L = huber(Q(s, a) - (r + gamma max_a' Q'(s', a')))                       (Mnih et al. 2015, Nature 518)

Two devices make a network hold still. Steps go into a replay buffer and are learnt from in random order, so that a batch
is not one episode's next steps. And targets come from Q', a copy that follows slowly, so that the network does not chase
what it has itself just said. The maximum is Q's choice valued by Q' (double Q-learning, van Hasselt et al. 2016,
arXiv:1509.06461), as a maximum of noisy numbers is too high.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.seeds import torch_generator
from orrery.tune.rl.classic.cartpole import CartPoles, Moved


class ReplayBuffer:
    """The last `capacity` steps, and random batches of them."""

    def __init__(self, capacity: int, width: int) -> None:
        self.size, self.capacity = 0, capacity
        self.seen, self.after = torch.zeros(2, capacity, width)
        self.action = torch.zeros(capacity, dtype=torch.int64)
        self.reward, self.ended = torch.zeros(2, capacity)

    def add(self, seen: Tensor, action: Tensor, moved: Moved) -> None:
        """Steps of N worlds; an episode broken off by the clock has not ended."""
        at = torch.arange(self.size, self.size + len(seen)) % self.capacity
        self.seen[at], self.action[at], self.after[at] = seen, action, moved.last
        self.reward[at], self.ended[at] = moved.reward, moved.fell.float()
        self.size += len(seen)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """n steps: what was seen, done, earned, seen next, and whether that was the end."""
        at = torch.randint(min(self.size, self.capacity), (n,), generator=generator)
        return self.seen[at], self.action[at], self.reward[at], self.after[at], self.ended[at]


@dataclass(frozen=True)
class Trained:
    """The network, and the length of every finished episode in the order of their ends."""

    net: nn.Module
    lengths: list[int]


def q_network(inputs: int, actions: int, width: int = 64) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, actions)
    )


def dqn_loss(
    net: nn.Module, target: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], gamma: float
) -> Tensor:
    """Mean Huber loss of a batch drawn from the buffer."""
    seen, action, reward, after, ended = batch
    with torch.no_grad():
        chosen = net(after).argmax(1, keepdim=True)
        wanted = reward + gamma * (1 - ended) * target(after).gather(1, chosen).squeeze(1)
    return F.smooth_l1_loss(net(seen).gather(1, action[:, None]).squeeze(1), wanted)


def train_dqn(
    *,
    steps: int = 1500,
    worlds: int = 8,
    gamma: float = 0.95,
    lr: float = 3e-3,
    follow: float = 0.05,
    seed: int = 0,
) -> Trained:
    """Learn to balance poles: each of `steps` moves every world once and learns from one batch of 128."""
    generator = torch_generator(seed, "dqn")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        net = q_network(4, 2)
    target = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    poles, buffer, lengths = CartPoles(worlds, generator=generator), ReplayBuffer(20_000, 4), list[int]()
    for step in range(steps):
        epsilon = max(0.02, 1 - step / (0.3 * steps))
        with torch.no_grad():
            greedy = net(poles.state).argmax(1)
        explore = torch.rand(worlds, generator=generator) < epsilon
        action = torch.where(explore, torch.randint(2, (worlds,), generator=generator), greedy)
        seen, age = poles.state, poles.age + 1
        moved = poles.step(action)
        buffer.add(seen, action, moved)
        lengths += age[moved.fell | moved.timed_out].tolist()
        if buffer.size < 500:
            continue
        optimizer.zero_grad()
        dqn_loss(net, target, buffer.draw(128, generator), gamma).backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, follow)
    return Trained(net, lengths)


@torch.no_grad()
def balanced_for(policy: nn.Module, *, worlds: int = 20, limit: int = 500, seed: int = 99) -> float:
    """Mean steps upright, at most `limit`, acting greedily on the network's output (N, 2)."""
    poles = CartPoles(worlds, generator=torch_generator(seed, "balance"), limit=limit)
    upright, alive = torch.zeros(worlds), torch.ones(worlds)
    for _ in range(limit):
        moved = poles.step(policy(poles.state).argmax(1))
        upright += alive
        alive = alive * (~moved.fell).float()
    return upright.mean().item()
