"""The stage of distillation: a student, old or new, learns from a teacher, with checkpoints beside it until it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrery.cli.pipeline.distill_recipe import DistillStage
from orrery.cli.pipeline.made import EXAMPLES, located, parents_of
from orrery.cli.pipeline.tuning import answer, effects, with_epochs, write
from orrery.kit.artifact import RECEIPT
from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress, console
from orrery.serve.find import find_model, identity_of
from orrery.serve.lm import LM
from orrery.tune.dataset import Split
from orrery.tune.distill.distil import Nearness, distil, nearness, told
from orrery.tune.distill.teacher import fresh_student, open_teacher, require_same_tokenizer
from orrery.tune.examples import Renderer
from orrery.tune.material import Material, gather
from orrery.tune.subject import Subject, open_subject


def make_distilled(stage: DistillStage, inputs: Mapping[str, Path], folder: Path, progress: Progress) -> None:
    """Learn in `<folder>.work` (checkpoints, logs), then write the finished student to `folder`.

    Args:
        inputs: "teacher", "model" where the student is one already, and the stages that sets of examples name.

    Raises:
        OrreryError: as `tune.distill.distil.distil`, or a row longer than the student's context.
    """
    taught_by = find_model(inputs["teacher"])
    teacher = open_teacher(taught_by)
    base = find_model(inputs["model"]) if "model" in inputs else None
    student = student_of(stage, base, teacher)
    if stage.loader.context > student.model.cfg.max_positions:
        raise OrreryError(
            f"loader.context={stage.loader.context} is longer than the student's context of {student.model.cfg.max_positions}; shorten it"
        )
    renderer = Renderer(
        tokenizer=student.tokenizer, chat=student.chat, system=stage.system, learn=stage.learn
    )
    material = gather(
        located("data", stage.data, inputs, EXAMPLES), renderer, stage.loader, root=Path(stage.data_root),
        parts=Split(heldout=stage.heldout, seed=stage.split_seed), validation_tokens=stage.validation_tokens,
        placeholders=student.placeholders,
    )  # fmt: skip
    for note in material.notes():
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    before = measured(student, teacher, material)
    work = folder.with_name(folder.name + ".work")
    result = distil(
        with_epochs(stage, material), student=student, teacher=teacher, material=material, out=work, mode=stage.mode, hard=stage.hard,
        on_policy=stage.on_policy, sequence_level=stage.sequence_level, teacher_id=identity_of(taught_by),
        sample=(lambda model, step: answer(student, renderer, material, stage.sample_tokens)) if material.shown else None,
        progress=progress,
    )  # fmt: skip
    after = measured(student, teacher, material)
    near = {name: told(before[name], after[name]) for name in before}
    found = effects(result, student, material) | {
        "heldout": {name: numbers["loss"] for name, numbers in near.items()},
        "nearness": near,
        "teacher": {"path": str(taught_by.resolve()), "id": identity_of(taught_by), "parameters": teacher.model.num_parameters()},
    }  # fmt: skip
    parents = {"teacher": taught_by} if (taught_by / RECEIPT).is_file() else {}
    write(
        stage, student, base, folder, work, found, operation="distill", made={**parents, **parents_of(inputs)}
    )


def student_of(stage: DistillStage, base: Path | None, teacher: LM) -> Subject:
    """The model that learns.

    Raises:
        OrreryError: it has another tokenizer than its teacher.
    """
    if base is None:
        assert stage.model is not None
        return fresh_student(stage.model, teacher, chat_template=stage.chat_template, seed=stage.loop.seed)
    student = open_subject(
        base, chat_template=stage.chat_template, adapter=stage.adapter, seed=stage.loop.seed
    )
    require_same_tokenizer(teacher, student.tokenizer)
    return student


def measured(student: Subject, teacher: LM, material: Material) -> dict[str, Nearness]:
    """How near the student is on each set's held-out examples."""
    return {
        name: nearness(
            student.model, teacher.model, batches, vocab_size=student.tokenizer.vocab_size, placeholders=student.placeholders
        )
        for name, batches in material.heldout.items()
        if batches
    }  # fmt: skip


def one_line(found: dict[str, Any]) -> str:
    """What the stage did, in a line."""
    near = next(iter(found["nearness"].values()), None)
    change = (
        ""
        if near is None
        else f"KL to the teacher {near['forward_kl']['before']:.3f} -> {near['forward_kl']['after']:.3f}, held-out loss "
        f"{near['loss']['before']:.3f} -> {near['loss']['after']:.3f}, "
    )
    return (
        f"{change}{found['parameters']:,} parameters of a teacher's {found['teacher']['parameters']:,}, {found['steps']:,} steps, "
        f"{found['tokens_per_s']:,.0f} tokens/s"
    )
