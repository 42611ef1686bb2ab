"""A world drawn as text: walk to the goal, round the walls, past the pits, on slippery ground.

    ...G      S start, G goal (+1, over), X pit (-1, over), # wall
    .#.X
    S...

The four actions are up, right, down, left; with probability `slip` the step goes to the one side, with the same to the
other. The world above with a slip of 0.1 and -0.04 a step is that of Russell & Norvig 1995, chapter 17, whose values
are in print.
"""

from __future__ import annotations

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.tune.rl.classic.mdp import MarkovDecisionProcess

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
NAMES = "↑→↓←"
PAYS = {"G": 1.0, "X": -1.0}

CLASSIC = "...G\n.#.X\nS..."


def gridworld(
    text: str = CLASSIC, *, slip: float = 0.1, step_reward: float = -0.04, gamma: float = 1.0
) -> MarkovDecisionProcess:
    """The decision process of a map; states are its cells row by row, walls among them (never entered).

    Raises:
        OrreryError: lines of different lengths, or not exactly one start.
    """
    lines = text.strip().splitlines()
    if len({len(line) for line in lines}) != 1 or text.count("S") != 1:
        raise OrreryError("a grid needs lines of one length and exactly one start 'S'; check the map")
    height, width = len(lines), len(lines[0])
    cells = "".join(lines)
    p = np.zeros((len(cells), 4, len(cells)))
    terminal = np.array([cell in PAYS for cell in cells])
    for s, cell in enumerate(cells):
        for a in range(4):
            if cell in PAYS or cell == "#":
                p[s, a, s] = 1
                continue
            for turn, chance in ((0, 1 - 2 * slip), (1, slip), (-1, slip)):
                dy, dx = MOVES[(a + turn) % 4]
                y, x = s // width + dy, s % width + dx
                inside = 0 <= y < height and 0 <= x < width and lines[y][x] != "#"
                p[s, a, y * width + x if inside else s] += chance
    pays = np.array([PAYS.get(cell, 0.0) for cell in cells])
    rewards = np.where((terminal | (np.array(list(cells)) == "#"))[:, None], 0.0, step_reward + p @ pays)
    return MarkovDecisionProcess(
        transitions=p, rewards=rewards, terminal=terminal, gamma=gamma, start=cells.index("S")
    )
