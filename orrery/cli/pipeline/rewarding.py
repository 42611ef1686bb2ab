"""The reward stage: a finished model becomes a judge of answers, with checkpoints beside it until it is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from orrery.cli.pipeline.made import PAIRS, located, parents_of
from orrery.cli.pipeline.reward_recipe import RewardStage
from orrery.cli.pipeline.training import LOGS
from orrery.data.split import split
from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, atomic_write
from orrery.kit.json_lines import read_rows
from orrery.kit.log import Progress, console
from orrery.serve.find import find_model, identity_of
from orrery.tune.examples import Renderer
from orrery.tune.preference.pairs import PreferenceSet, read_pairs, read_thumbs, state_of_preferences
from orrery.tune.preference.records import question_of
from orrery.tune.reward.folder import Described, describe, member, save_reward
from orrery.tune.reward.items import Item, Told, fitted, item_of
from orrery.tune.reward.labelled import Stepped, read_stepped, stepped
from orrery.tune.reward.measure import judge
from orrery.tune.reward.model import combined
from orrery.tune.reward.rollouts import Labeller, chosen
from orrery.tune.reward.trainer import RewardMaterial, RewardResult, train_reward
from orrery.tune.rl.problems import read_problems, state_of_problems
from orrery.tune.rows import Row
from orrery.tune.subject import Subject, open_subject

NOTHING: Mapping[str, Path] = MappingProxyType({})
OWN = "labelled.jsonl"
"""Answers that the base model drew, with their labels."""


def make_rewarding(
    stage: RewardStage, base: Path, folder: Path, progress: Progress, *, inputs: Mapping[str, Path] = NOTHING
) -> None:
    """Train in `<folder>.work` (checkpoints, logs), then write the finished reward model or ensemble to `folder`.

    Args:
        inputs: by role, the folders of earlier stages that sets of pairs name.
    """
    base = find_model(base)
    work, count = folder.with_name(folder.name + ".work"), stage.reward.members
    made: list[tuple[Subject, RewardResult]] = []
    material, left_out = None, 0
    for number in range(count):
        subject = open_subject(
            base, chat_template=stage.chat_template, adapter=stage.adapter, seed=stage.loop.seed + number
        )
        if stage.loader.context > subject.model.cfg.max_positions:
            raise OrreryError(
                f"loader.context={stage.loader.context} is longer than the model's context of {subject.model.cfg.max_positions}; shorten it"
            )
        if material is None:
            material, left_out = gather(stage, subject, inputs, work)
        result = train_reward(
            stage.loop, model=subject.model, material=material, level=stage.level, out=_part(work, number, count), cfg=stage.reward,
            loader=stage.loader, number=number, epochs=stage.epochs, progress=progress,
        )  # fmt: skip
        made.append((subject, result))
    assert material is not None
    if left_out:
        told = f"{left_out:,} rows do not fit into loader.context={stage.loader.context} and were left out"
        console.print(told, style="yellow", highlight=False, soft_wrap=True)
    write(stage, made, base, folder, work, effects(stage, made, material, left_out), inputs)


def gather(
    stage: RewardStage, subject: Subject, inputs: Mapping[str, Path], work: Path
) -> tuple[RewardMaterial, int]:
    """What is learned and what is held out, and how many rows do not fit."""
    renderer = Renderer(tokenizer=subject.tokenizer, chat=subject.chat, system=stage.system, learn="last")
    root, given = Path(stage.data_root), located("data", stage.data, inputs, PAIRS)
    read = [own(stage, subject, work)] if stage.labelled else [told_by(cfg, stage, root) for cfg in given]
    sets: list[list[Item]] = []
    heldout: list[Item] = []
    left_out = 0
    for records in read:
        sides: dict[str, list[Item]] = {"train": [], "heldout": []}
        for side, record in split(((_question(r), r) for r in records), stage.heldout, seed=stage.split_seed):
            sides[side].append(item_of(record, renderer, stage.reward))
        for side in ("train", "heldout"):
            sides[side], lost = fitted(
                sides[side], stage.loader, virtual=subject.placeholders, bos=subject.tokenizer.bos_id
            )
            left_out += lost
        if not sides["train"]:
            raise OrreryError(
                f"no row to learn from fits into loader.context={stage.loader.context} ({left_out:,} do not); raise it, or set loader.long: right"
            )
        sets.append(sides["train"])
        heldout += sides["heldout"]
    shares = None
    if any(cfg.share is not None for cfg in given):
        shares = [cfg.share or float(len(part)) for cfg, part in zip(given, sets, strict=True)]
    return RewardMaterial(sets=sets, heldout=heldout, shares=shares, virtual=subject.placeholders), left_out


def state_of_rewarding(stage: RewardStage) -> list[tuple[str, int, int]]:
    """What the files are that a stage reads, cheaply."""
    root = Path(stage.data_root)
    problems = () if stage.labelled is None else stage.labelled.problems
    return [*state_of_preferences(stage.data, root), *state_of_problems(problems, root)]


def told_by(cfg: PreferenceSet, stage: RewardStage, root: Path) -> Sequence[Told]:
    """The rows of a set, of the kind that the level learns from."""
    match stage.level:
        case "pair":
            return read_pairs(cfg, root, seed=stage.split_seed)
        case "outcome":
            return read_thumbs(cfg, root, seed=stage.split_seed)
    return read_stepped(cfg, root)


def own(stage: RewardStage, subject: Subject, work: Path) -> Sequence[Told]:
    """Answers that the base model draws, judged; they are drawn once and kept beside the checkpoints."""
    assert stage.labelled is not None
    path = work / OWN
    if not path.is_file():
        problems = read_problems(
            stage.labelled.problems, root=Path(stage.data_root), heldout=0, seed=stage.loop.seed
        )
        asked = chosen(problems, stage.labelled.limit)
        labeller = Labeller(
            lm=subject.lm(), cfg=stage.labelled, separator=stage.reward.separator, system=stage.system, seed=stage.loop.seed
        )  # fmt: skip
        if stage.level == "outcome":
            rows = [
                {"messages": [*thumb.messages, *thumb.answer], "label": thumb.up}
                for thumb in labeller.verdicts(asked)
            ]
        else:
            rows = [row.row() for row in labeller.steps(asked)]
        work.mkdir(parents=True, exist_ok=True)
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    if stage.level == "outcome":
        return read_thumbs(PreferenceSet(paths=(str(path.resolve()),)), Path())
    return [stepped(Row(f"'{path}', line {n}", row)) for n, row in enumerate(read_rows(path), start=1)]


def write(
    stage: RewardStage, made: Sequence[tuple[Subject, RewardResult]], base: Path, folder: Path, work: Path, found: dict[str, Any],
    inputs: Mapping[str, Path],
) -> None:  # fmt: skip
    """The finished folder, each member's model or adapter with its head, the logs, the receipt."""
    foreign = (
        {} if (base / RECEIPT).is_file() else {"base": {"path": str(base.resolve()), "id": identity_of(base)}}
    )
    described = Described(level=stage.level, reward=stage.reward, system=stage.system)
    with atomic_folder(folder) as new:
        describe(new, described)
        for number, (subject, result) in enumerate(made):
            place = _part(new, number, len(made))
            place.mkdir(exist_ok=True)
            save_reward(subject, result.head, place, described, base=str(base.resolve()))
            for name in LOGS:
                if (source := _part(work, number, len(made)) / name).is_file():
                    shutil.copyfile(source, place / name)
        if (work / OWN).is_file():
            shutil.copyfile(work / OWN, new / OWN)
        write_receipt(
            new, kind="reward", operation="reward", recipe=stage, home=folder,
            parents={**({} if foreign else {"model": base}), **parents_of(inputs)}, data=foreign,
            surgery=made[0][0].model.surgery, effects=found,
        )  # fmt: skip


def effects(
    stage: RewardStage, made: Sequence[tuple[Subject, RewardResult]], material: RewardMaterial, left_out: int
) -> dict[str, Any]:
    """What it did, for the receipt and the report."""
    subject, first = made[0]
    trained = [p for p in subject.model.parameters() if p.requires_grad]
    together = None
    if material.heldout:
        scores = torch.stack([result.scores for _, result in made])
        together = judge(
            combined(scores, stage.reward.combine, stage.reward.k), material.heldout, stage.level
        )
    return {
        "level": stage.level,
        "parameters": sum(p.numel() for p in subject.model.parameters()) + first.head.weight.numel(),
        "trained": sum(p.numel() for p in trained) + first.head.weight.numel(),
        "share": "all weights learn" if subject.adapter is None else subject.adapter.share(subject.model),
        "steps": first.run.steps,
        "tokens": sum(result.run.tokens for _, result in made),
        "epochs": first.epochs,
        "rows": {
            "learned": sum(map(len, material.sets)),
            "heldout": len(material.heldout),
            "left_out": left_out,
        },
        "before": None if first.before is None else first.before.to_dict(),
        "after": None if together is None else together.to_dict(),
        "members": [None if result.after is None else result.after.to_dict() for _, result in made],
        "loss": first.run.loss,
        "skipped": sum(result.run.skipped for _, result in made),
        "seconds": sum(result.run.seconds for _, result in made),
    }


def one_line(found: dict[str, Any]) -> str:
    """What the stage did, in a line."""
    rows, after = found["rows"], found["after"]
    judged = ""
    if after is not None:
        right, noun = (
            after["accuracy"],
            {"pair": "pairs", "outcome": "answers", "process": "steps"}[found["level"]],
        )
        before = found["before"]["accuracy"]["mean"]
        judged = f", accuracy {before:.3f} -> {right['mean']:.3f} on {right['n']} held-out {noun}, calibration error {after['ece']:.3f}"
    several = f"{len(found['members'])} members, " if len(found["members"]) > 1 else ""
    return f"{several}{found['steps']:,} steps, {rows['learned']:,} rows{judged}"


def _part(folder: Path, number: int, count: int) -> Path:
    return folder if count == 1 else member(folder, number + 1)


def _question(record: Told) -> bytes:
    return record.question() if isinstance(record, Stepped) else question_of(record)
