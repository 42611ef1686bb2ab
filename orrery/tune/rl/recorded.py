"""Episodes as they are written down, bit for bit: in checkpoints, in the files of a run, in files from elsewhere.

    {"problem": {"prompt", "target", "score", "row", "part", "id"},                                 one line an episode
     "group", "truncated", "conversation", "experts",
     "turns": [{"read", "ids", "logprobs", "text", "raw", "whole", "reward"}]}

A run with `keep_rollouts` writes `rollouts/<step>.jsonl` in its folder. `Replay` names files to learn from beside what the run draws itself:
its own of an earlier time, or another system's. Of those a line needs, of the problem, prompt, target and score, and of every turn the ids
that were read and written, the log-probability that whatever drew them gave to each id written (nats, at temperature 1), and the text; the
problem's scorer judges an answer without a reward. Episodes of one file with the same group and prompt are compared with each other. What
learns is not what drew, so each token is weighed by `importance`.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from orrery.data.shuffle import shuffled
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows
from orrery.kit.seeds import key
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.trajectory import Trajectory, Turn

IDS = ("read", "ids", "logprobs")
Groups = Sequence[Sequence[Trajectory]]


@config
class Replay:
    """Attributes:
    paths: files below the stage's `data_root`, patterns allowed.
    prompts: how many groups are learned from in a round, beside its own; all come once before any comes again.
    """

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    prompts: Annotated[int, Field(ge=1)] = 8


def plain(one: Trajectory) -> dict[str, Any]:
    """An episode without its rewards, which are judged anew; JSON-able where its problem's row is."""
    return {
        "problem": {field.name: getattr(one.problem, field.name) for field in fields(Problem)},
        "group": one.group,
        "truncated": one.truncated,
        "conversation": [dict(message) for message in one.conversation],
        "experts": [layer.tolist() for layer in one.experts],
        "turns": [
            {field.name: getattr(turn, field.name) for field in fields(Turn)}
            | {name: list(getattr(turn, name)) for name in IDS}
            for turn in one.turns
        ],
    }


def recorded(found: Mapping[str, Any]) -> Trajectory:
    """What `plain` wrote, or another system.

    Raises:
        KeyError, TypeError, ValueError: it is no episode.
    """
    problem = Problem(**{"row": {}} | found["problem"])
    turns = [_turn(turn) for turn in found["turns"]]
    if "reward" not in found["turns"][-1]:
        turns[-1] = Turn(**vars(turns[-1]) | {"reward": problem.judge(turns[-1].text)})
    said = [{"role": "user", "content": problem.prompt}, {"role": "assistant", "content": turns[-1].text}]
    return Trajectory(
        problem=problem,
        group=found.get("group", 0),
        turns=tuple(turns),
        truncated=found.get("truncated", False),
        conversation=tuple(found.get("conversation", said)),
        experts=tuple(torch.tensor(layer) for layer in found.get("experts", ())),
    )


def _turn(found: Mapping[str, Any]) -> Turn:
    if not len(found["ids"]) == len(found["logprobs"]) > 0 < len(found["read"]):
        raise ValueError("a turn has ids that were read, and for each id written a log-probability")
    given: dict[str, Any] = {"raw": found["text"], "whole": True, **found}
    ids: dict[str, Any] = {name: tuple(found[name]) for name in IDS}
    return Turn(**given | ids)


def read_recorded(cfg: Replay | None, *, root: Path) -> list[list[Trajectory]]:
    """The groups of all files.

    Raises:
        OrreryError: a file that is missing or damaged, or a line that is no episode; names it.
    """
    groups: list[list[Trajectory]] = []
    for file in files_of(cfg, root):
        found: dict[tuple[int, str], list[Trajectory]] = {}
        for n, row in enumerate(read_rows(file), start=1):
            try:
                one = recorded(row)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                if isinstance(error, OrreryError):
                    raise
                raise OrreryError(
                    f"'{file}', episode {n}, is no episode ({type(error).__name__}: {error}); it needs problem {{prompt, target, score}} and "
                    "turns [{read, ids, logprobs, text}]"
                ) from None
            found.setdefault((one.group, one.problem.prompt), []).append(one)
        groups += found.values()
    if cfg is not None and not groups:
        raise OrreryError(f"there is no episode in {', '.join(cfg.paths)}")
    return groups


def files_of(cfg: Replay | None, root: Path) -> list[Path]:
    """The files named, in order.

    Raises:
        OrreryError: a path that names nothing.
    """
    found: list[Path] = []
    for pattern in () if cfg is None else cfg.paths:
        files = sorted(glob.glob(str(root / Path(pattern).expanduser())))
        if not files:
            raise OrreryError(f"there is no file of episodes at '{root / pattern}'")
        found += map(Path, files)
    return found


def state_of_recorded(cfg: Replay | None, root: Path) -> list[tuple[str, int, int]]:
    """What the files are, cheaply: each one's path, size and time of change."""
    stats = ((file, file.stat()) for file in files_of(cfg, root))
    return [(str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def turn_of(groups: Groups, prompts: int, *, step: int, seed: int) -> Iterator[Sequence[Trajectory]]:
    """The groups whose turn it is in a round: each once before any comes again, in an order drawn by `seed`."""
    for n in range(step * prompts, (step + 1) * prompts):
        epoch, at = divmod(n, len(groups))
        yield groups[shuffled(at, len(groups), key(seed, "replayed", epoch))]


def check_recorded(cfg: Replay | None, groups: Groups, *, vocab_size: int, layers: int) -> None:
    """Refuse episodes that this model cannot have read. `layers`: whose routers are to be replayed.

    Raises:
        OrreryError: none where some are asked for, ids outside the vocabulary, or experts that are missing.
    """
    if bool(groups) != (cfg is not None):
        raise OrreryError(
            "replay and recorded episodes go together; give reinforce recorded=read_recorded(cfg.replay, root=...)"
        )
    for one in (one for group in groups for one in group):
        odd = [id for id in one.ids if not 0 <= id < vocab_size]
        if odd:
            raise OrreryError(
                f"a recorded episode has the id {odd[0]}, and the vocabulary {vocab_size:,}; it is of another tokenizer"
            )
        if len(one.experts) < layers:
            raise OrreryError(
                "a recorded episode says nothing of its experts; leave router_replay out, or record with it"
            )
