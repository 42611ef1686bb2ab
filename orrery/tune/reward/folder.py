"""A reward model on disk: the folder of its model or adapter, and beside that reward.json and reward.safetensors (`score.weight`, (1, d)).

    save_reward(subject, head, folder, described)          inside `kit.files.atomic_folder`
    model = load_reward("runs/reward")                     a RewardModel, or a RewardEnsemble where several were trained

An ensemble has a folder for each member, member-1, member-2, ...
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors

from orrery.kit.artifact import RECEIPT
from orrery.kit.config import config, resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write
from orrery.kit.json import read_object
from orrery.kit.model_folder import Weights
from orrery.kit.safetensors import open_safetensors
from orrery.kit.untrusted import inside
from orrery.model.adapters.folder import save_adapter
from orrery.model.folder import save_model
from orrery.model.weights import not_finite, read_tensor
from orrery.serve.adapters import DEFAULT, Adapters, put_beside
from orrery.serve.find import RUN, base_of, is_adapter, run_stages
from orrery.serve.lm import LM
from orrery.tune.reward.config import Level, RewardConfig
from orrery.tune.reward.head import ScoreHead
from orrery.tune.reward.model import RewardEnsemble, RewardModel
from orrery.tune.subject import Subject

FILE, WEIGHTS = "reward.json", "reward.safetensors"
TENSOR = "score.weight"


@config
class Described:
    """The content of reward.json."""

    format: int = 1
    level: Level = "pair"
    reward: RewardConfig = RewardConfig()
    system: str = ""


def save_reward(
    subject: Subject, head: ScoreHead, folder: Path, described: Described, *, base: str = ""
) -> None:
    """Write one reward model into `folder` (call it inside `kit.files.atomic_folder`). The model must not own the head any more.

    Args:
        base: the name or path of the model that an adapter stands beside.
    """
    tokenizer, chat = subject.tokenizer, subject.chat
    if subject.adapter is None:
        save_model(subject.model, folder, bos_id=tokenizer.bos_id, eos_id=list(subject.lm().stop_ids) or None)
        tokenizer.save(folder)
    else:
        save_adapter(subject.adapter, subject.model, folder, base_model=base)
    if chat is not None:
        chat.save(folder)
    weight = head.weight.detach().cpu().float()[None].contiguous()
    atomic_write(folder / WEIGHTS, to_safetensors({TENSOR: weight}, metadata={"format": "pt"}))
    describe(folder, described)


def describe(folder: Path, described: Described) -> None:
    """Write reward.json."""
    atomic_write(folder / FILE, json.dumps(to_dict(described), indent=2, ensure_ascii=False) + "\n")


def member(folder: Path, number: int) -> Path:
    """The folder of an ensemble's member, counted from 1."""
    return folder / f"member-{number}"


def find_reward(path: str | Path) -> Path | None:
    """The folder of a reward model that `path` means: itself, or a run's newest one; None where there is none."""
    path = Path(path)
    if (path / FILE).is_file():
        return path
    if not (path / RUN).is_file():
        return None
    found = [folder for kind, folder in run_stages(path) if kind == "reward" and (folder / RECEIPT).is_file()]
    return found[-1] if found else None


def load_reward(path: str | Path) -> RewardModel | RewardEnsemble:
    """Open a reward model, or a run's newest one.

    Raises:
        OrreryError: there is none, or its files are damaged or do not fit together.
    """
    folder = find_reward(path)
    if folder is None:
        raise OrreryError(
            f"'{path}' holds no reward model (there is no {FILE}); train one with: orrery tune recipes/reward.yaml"
        )
    what = "a reward model's description"
    described: Described = resolve(
        Described, read_object(inside(folder, FILE), what=what), where=str(folder / FILE)
    )
    cfg = described.reward
    if cfg.members == 1:
        return _open(folder, folder, described)
    members = tuple(_open(member(folder, n + 1), folder, described) for n in range(cfg.members))
    return RewardEnsemble(members=members, combine=cfg.combine, k=cfg.k)


def _open(folder: Path, home: Path, described: Described) -> RewardModel:
    """One model; `home` has the receipt, which names the model that an adapter stands beside."""
    if is_adapter(folder):
        lm = LM.load(base_of(home), dtype=torch.float32, dequantise=True)
        put_beside(lm, folder, DEFAULT)
        Adapters.of(lm.model).use_by_default(DEFAULT)
    else:
        lm = LM.load(folder)
    head = ScoreHead(lm.model.cfg.d_model)
    with open_safetensors(inside(folder, WEIGHTS)) as file:
        weights = Weights(dict.fromkeys(file.tensors, file))
        state = {name: read_tensor(weights, name) for name in file.tensors}
    if state.keys() != {TENSOR} or state[TENSOR].shape != (1, len(head.weight)) or not_finite(state):
        raise OrreryError(
            f"'{folder / WEIGHTS}' does not hold the head of this reward model ({TENSOR}, 1 x {len(head.weight)}, finite); train it again"
        )
    with torch.no_grad():
        head.weight.copy_(state[TENSOR][0])
    head.requires_grad_(False).to(lm.model.device)
    return RewardModel(lm=lm, head=head, level=described.level, cfg=described.reward, system=described.system)
