"""What each kind of stage does: read its inputs, call the package, write an artifact with a receipt."""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orrery.cli.pipeline.distill_recipe import DistillStage
from orrery.cli.pipeline.prefer_recipe import PreferStage
from orrery.cli.pipeline.recipe import (
    DrafterStage,
    EvalStage,
    EvaluateStage,
    GenerateStage,
    PrepareStage,
    RlStage,
    RunRecipe,
    Stage,
    TokenizerStage,
    TrainStage,
    TuneStage,
)
from orrery.cli.pipeline.reward_recipe import RewardStage
from orrery.cli.pipeline.sample_recipe import SampleStage
from orrery.data.source import StdlibSource, list_files
from orrery.kit.artifact import Receipt, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, write_file
from orrery.kit.log import Progress

if TYPE_CHECKING:
    from orrery.data.prepare import PrepareConfig

FORMAT = 1
"""Raised when a stage's output changes meaning, so that older folders are not taken for finished ones."""

ROLE_KINDS = {"tokenizer": "tokenizer", "data": "data", "model": "model", "reward": "reward"}
MODELS = ("model", "teacher", "judge")
"""Roles that any model may have, whoever made it."""


def make(
    stage: Stage, *, recipe: RunRecipe, inputs: dict[str, Path], folder: Path, progress: Progress
) -> None:
    """Make the artifact of `stage` in `folder`."""
    match stage:
        case TokenizerStage():
            make_tokenizer(stage, recipe, folder, progress)
        case PrepareStage():
            make_data(stage, recipe, inputs["tokenizer"], folder, progress)
        case TrainStage():
            from orrery.cli.pipeline.training import make_model

            make_model(stage, inputs["data"], folder, progress)
        case DrafterStage():
            from orrery.cli.pipeline.drafting import make_trained_drafter

            make_trained_drafter(stage, inputs["model"], inputs["data"], folder, progress)
        case TuneStage():
            from orrery.cli.pipeline.tuning import make_tuned

            make_tuned(stage, inputs["model"], folder, progress, inputs=inputs)
        case RlStage():
            from orrery.cli.pipeline.reinforcing import make_reinforced

            make_reinforced(stage, inputs["model"], folder, progress, reward=inputs.get("reward"))
        case PreferStage():
            from orrery.cli.pipeline.preferring import make_preferred

            make_preferred(stage, inputs["model"], folder, progress, inputs=inputs)
        case RewardStage():
            from orrery.cli.pipeline.rewarding import make_rewarding

            make_rewarding(stage, inputs["model"], folder, progress, inputs=inputs)
        case DistillStage():
            from orrery.cli.pipeline.distilling import make_distilled

            make_distilled(stage, inputs, folder, progress)
        case SampleStage():
            from orrery.cli.pipeline.sampling import make_samples

            make_samples(stage, inputs, folder, progress)
        case EvaluateStage():
            from orrery.cli.pipeline.evaluation import make_evaluation

            make_evaluation(stage, inputs["model"], inputs["data"], folder, progress)
        case EvalStage():
            from orrery.cli.pipeline.tasks_stage import make_scores

            make_scores(stage, inputs["model"], folder, progress)
        case GenerateStage():
            make_generations(stage, inputs["model"], inputs.get("data"), folder, progress)


def source_identity(recipe: RunRecipe) -> Any:
    """What the text is, cheaply: the library of this Python, or every file's size and time of change."""
    if isinstance(recipe.source, StdlibSource):
        return ["stdlib", platform.python_version()]
    stats = ((str(path.resolve()), path.stat()) for path in list_files(recipe.source.paths))
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def file_identity(stage: Stage) -> Any:
    """What the files of examples and questions that a stage reads are, cheaply."""
    if isinstance(stage, EvalStage):
        from orrery.cli.pipeline.tasks_stage import state_of_tasks

        return state_of_tasks(stage)
    if isinstance(stage, RlStage):
        from orrery.tune.rl.problems import state_of_problems
        from orrery.tune.rl.recorded import state_of_recorded

        root = Path(stage.data_root)
        return [
            *state_of_problems(stage.rl.problems, root),
            *state_of_recorded(stage.rl.replay, root),
        ] or None
    if isinstance(stage, PreferStage):
        from orrery.cli.pipeline.preferring import state_of_stage

        return state_of_stage(stage)
    if isinstance(stage, RewardStage):
        from orrery.cli.pipeline.rewarding import state_of_rewarding

        return state_of_rewarding(stage) or None
    if isinstance(stage, SampleStage):
        from orrery.cli.pipeline.sampling import state_of_samples

        return state_of_samples(stage)
    if isinstance(stage, DistillStage):
        from orrery.tune.dataset import state_of_files

        return state_of_files(stage.data, Path(stage.data_root))
    if not isinstance(stage, TuneStage):
        return None
    from orrery.tune.dataset import state_of_files

    return state_of_files([*stage.data, *stage.replay, *stage.watch], Path(stage.data_root))


def make_tokenizer(stage: TokenizerStage, recipe: RunRecipe, folder: Path, progress: Progress) -> None:
    from orrery.data.prepare import PrepareConfig
    from orrery.text.chat import ChatFormat
    from orrery.text.train import train_tokenizer

    config = PrepareConfig(source=recipe.source, heldout=recipe.split.heldout, seed=recipe.split.seed)
    counts = {"documents": 0, "bytes": 0}
    texts = _train_texts(config, int(stage.max_megabytes * 1e6), counts, progress)
    tokenizer = train_tokenizer(texts, stage.tokenizer)
    sample = "\n".join(
        itertools.islice(_train_texts(config, 2_000_000, {"documents": 0, "bytes": 0}, progress), 200)
    )
    ids = tokenizer.encode(sample)
    with atomic_folder(folder) as new:
        tokenizer.save(new)
        ChatFormat(tokenizer).save(new)
        write_receipt(
            new, kind="tokenizer", operation="train tokenizer", recipe=stage, home=folder, data=counts,
            effects={
                "vocab_size": tokenizer.vocab_size,
                "bytes_per_token": len(sample.encode()) / max(len(ids), 1),
                "fingerprint": tokenizer.fingerprint,
                **counts,
            },
        )  # fmt: skip


def _train_texts(
    config: PrepareConfig, limit: int, counts: dict[str, int], progress: Progress
) -> Iterator[str]:
    """Texts of the training side of the split, as `prepare` will see them, up to `limit` bytes."""
    from orrery.data.accounting import PrepareAccount
    from orrery.data.prepare import kept_documents
    from orrery.data.source import Meter

    meter = Meter()
    for side, item in kept_documents(config, meter, PrepareAccount()):
        if side != "train":
            continue
        if counts["bytes"] + item.n_bytes > limit:
            return
        counts["documents"] += 1
        counts["bytes"] += item.n_bytes
        progress.update(meter.done, meter.total, documents=counts["documents"])
        yield item.text


def make_data(
    stage: PrepareStage, recipe: RunRecipe, tokenizer: Path, folder: Path, progress: Progress
) -> None:
    from orrery.data.prepare import PrepareConfig, prepare
    from orrery.text.tokenizer import Tokenizer

    config = PrepareConfig(
        source=recipe.source, clean=stage.clean, dedup=stage.dedup, start=stage.start,
        heldout=recipe.split.heldout, seed=recipe.split.seed,
    )  # fmt: skip
    prepare(config, Tokenizer.load(tokenizer), folder, parents={"tokenizer": tokenizer}, progress=progress)


def make_generations(
    stage: GenerateStage, model: Path, data: Path | None, folder: Path, progress: Progress
) -> None:
    from orrery.serve.lm import LM

    lm = LM.load(model)
    prompts = [*stage.prompts, *(openings(data) if data else [])] or [""]
    said = []
    for n, prompt in enumerate(prompts):
        progress.update(n, len(prompts))
        completion = lm.generate(
            prompt,
            max_tokens=stage.max_tokens,
            temperature=stage.temperature,
            top_p=stage.top_p,
            seed=stage.seed,
        )
        said.append({"prompt": prompt, "text": completion.text, "finish_reason": completion.finish_reason})
    with atomic_folder(folder) as new:
        write_file(new / "generations.json", json.dumps(said, indent=2, ensure_ascii=False) + "\n")
        write_receipt(
            new, kind="generations", operation="generate", recipe=stage, home=folder,
            parents={"model": model, **({"data": data} if data else {})},
            effects={"prompts": len(said)},
        )  # fmt: skip


def openings(data: Path, *, count: int = 3, words: int = 6) -> list[str]:
    """The first words of the first held-out documents."""
    from orrery.data.shard import heldout_documents

    return [" ".join(d.text.split()[:words]) for d in itertools.islice(heldout_documents(data), count)]


def one_line(receipt: Receipt) -> str:
    """What a finished stage did, in a line."""
    effects = receipt.effects
    if receipt.operation == "distill":
        from orrery.cli.pipeline import distilling

        return distilling.one_line(effects)
    if receipt.operation == "prefer":
        from orrery.cli.pipeline import preferring

        return preferring.one_line(effects)
    if receipt.operation == "reinforce":
        from orrery.cli.pipeline import reinforcing

        return reinforcing.one_line(effects)
    match receipt.kind:
        case "reward":
            from orrery.cli.pipeline import rewarding

            return rewarding.one_line(effects)
        case "examples":
            from orrery.cli.pipeline import sampling

            return sampling.one_line(effects)
        case "tokenizer":
            return f"{effects['vocab_size']:,} tokens, {effects['bytes_per_token']:.2f} bytes a token"
        case "data":
            splits = effects["splits"]
            return ", ".join(
                f"{part['documents']:,} documents {part['tokens']:,} tokens {name}"
                for name, part in splits.items()
            )
        case "model":
            return (
                f"{effects['parameters']:,} parameters, {effects['steps']:,} steps, loss {effects['loss']:.3f}, "
                f"{effects['tokens_per_s']:,.0f} tokens/s, {effects['utilization']:.0%} of the matmul peak"
            )
        case "adapter":
            return (
                f"{effects['share']}, {effects['steps']:,} steps, {effects['supervised']:,} supervised tokens, "
                f"loss {effects['loss']:.3f}, {effects['tokens_per_s']:,.0f} tokens/s"
            )
        case "drafter":
            return (
                f"{effects['kind']}, {effects['parameters']:,} parameters, {effects['steps']:,} steps, "
                f"{effects['mean_accepted_length']:.2f} tokens a pass (before training {effects['untrained_length']:.2f})"
            )
        case "evaluation":
            return (
                ", ".join(f"{name} {value:.3f}" for name, value in effects["bits_per_byte"].items())
                + " bits per byte"
            )
        case "scores":
            return ", ".join(
                f"{task} {metric} {number['mean']:.3f}"
                if number["mean"] is not None
                else f"{task} {metric} -"
                for task, found in effects["tasks"].items()
                for metric, number in found["metrics"].items()
            )
        case "generations":
            return f"{effects['prompts']} prompts continued"
    raise OrreryError(f"unknown kind of artifact '{receipt.kind}'")
