"""`orrery eval`: measure a model on tasks, compare two results, list the tasks, score texts against references."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from orrery.cli import alignment as aligned
from orrery.cli import judge as judging
from orrery.cli.common import MODEL, print_json
from orrery.cli.long_context import long
from orrery.cli.strategies import print_spending, read_strategies, reward_of, strategies

if TYPE_CHECKING:
    from orrery.evaluate.compare import TaskDifference
    from orrery.evaluate.results import TaskResult
    from orrery.evaluate.strategies.config import Strategy
    from orrery.evaluate.task import Task

OUT = "Folder for results; each task has a folder in it."


class ModelFirst(typer.core.TyperGroup):
    """`orrery eval MODEL ...` is `orrery eval run MODEL ...`: what is no word of its own names a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ModelFirst,
    no_args_is_help=True,
    help="Measure a model on tasks: **orrery eval MODEL --tasks gsm8k,blimp --data DIR**. Compare, list, score texts.",
)
app.command("long")(long)
app.command("judge")(judging.judge)
app.command("pairs")(judging.pairs)
app.command("strategies")(strategies)
app.command("alignment")(aligned.alignment)
app.command("sycophancy")(aligned.sycophancy)
app.command("oversight")(aligned.oversight)
app.command("monitor")(aligned.monitor)


@app.command("run")
def run(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    tasks: Annotated[
        str, typer.Option(help="Names (`orrery eval list`) or YAML files, with commas between.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the tasks' data sets.", envvar="ORRERY_EVAL_DATA")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Questions of each task, evenly spread.", min=1)] = None,
    shots: Annotated[
        int | None, typer.Option(help="Demonstrations before each question (default: the task's).", min=0)
    ] = None,
    out: Annotated[Path | None, typer.Option(help=OUT + " Default: runs/eval/<model>-<settings>.")] = None,
    seed: Annotated[int, typer.Option(help="Of drawn demonstrations and sampled answers.")] = 0,
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Ask by the model's chat format (default: the task's wish)."),
    ] = None,
    bos: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(help="BOS before each text; auto: as the tokenizer's files say."),
    ] = "auto",
    prompts: Annotated[
        Path | None, typer.Option(help="YAML file of several ways to ask, compared question by question.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="How an answer is made at test time, such as self-consistency:n=8 (`orrery eval strategies`); several with ; between."
        ),
    ] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens in one pass of the model.", min=1)] = 2048,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure a model; the same command goes on where an interrupted one was.

    Example: orrery eval runs/quickstart --tasks blimp,arithmetic --data data --limit 200
    """
    import orrery
    from orrery.cli.common import live
    from orrery.cli.evaluation import print_results
    from orrery.evaluate.compare import compare
    from orrery.evaluate.report import write_report
    from orrery.evaluate.run_task import run_task
    from orrery.evaluate.strategies.config import label
    from orrery.evaluate.subject import Subject
    from orrery.evaluate.task import find_task
    from orrery.evaluate.variants import prompt_variants

    wanted = [find_task(name.strip()) for name in tasks.split(",") if name.strip()]
    plans = read_strategies(strategy or [])
    ways = [list(prompt_variants(task, prompts).values()) if prompts else [task] for task in wanted]
    subject = Subject.of(orrery.load(model))
    settings = {
        "limit": limit,
        "shots": shots,
        "seed": seed,
        "chat": chat,
        "bos": bos,
        "batch_tokens": batch_tokens,
    }
    folder = out or _usual_folder(subject, settings)

    def measured(task: Task, plan: Strategy | None) -> TaskResult:
        with live(task.name if plan is None else f"{task.name} {label(plan)}") as progress:
            return run_task(
                subject, task, data=data, strategy=plan, reward=reward_of(plan), out=folder, progress=progress, **settings,  # type: ignore[bad-argument-type]
            )  # fmt: skip

    results: list[list[TaskResult]] = [
        [measured(task, plan) for task in group] for group in ways for plan in plans
    ]
    differences: list[TaskDifference] = [compare(group[0], other) for group in results for other in group[1:]]
    write_report(folder)
    if json:
        told: dict[str, Any] = {"results": [r.to_dict() for group in results for r in group]}
        if differences:
            told["differences"] = [_difference(d) for d in differences]
        print_json(told)
        return
    print_results([r for group in results for r in group], differences, folder)
    print_spending([r for group in results for r in group])


@app.command("diff")
def diff(
    a: Annotated[Path, typer.Argument(help="Results of one model (a folder that `orrery eval` wrote).")],
    b: Annotated[Path, typer.Argument(help="Results of another, on the same questions.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare two results question by question: paired differences with intervals, and McNemar's test.

    Example: orrery eval diff runs/eval/base runs/eval/tuned
    """
    from orrery.cli.evaluation import print_differences
    from orrery.evaluate.compare import compare
    from orrery.evaluate.results import read_results
    from orrery.kit.errors import OrreryError

    first, second = read_results(a), read_results(b)
    shared = [name for name in first if name in second]
    if not shared:
        raise OrreryError(
            f"no task is in both: '{a}' has {', '.join(first)}, '{b}' has {', '.join(second)}; measure both on the same"
        )
    found = [compare(first[name], second[name]) for name in shared]
    if json:
        print_json([_difference(difference) for difference in found])
        return
    print_differences(found, names=(str(a), str(b)))


@app.command("list")
def list_tasks(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """The tasks that come with orrery: what each asks, and the data it reads."""
    from orrery.cli.evaluation import print_tasks
    from orrery.evaluate.task import find_task, task_names

    found = [find_task(name) for name in task_names()]
    if json:
        print_json(found)
        return
    print_tasks(found)


@app.command("metrics")
def metrics(
    hypotheses: Annotated[Path, typer.Argument(help="Texts to score, one a line.")],
    references: Annotated[
        list[Path],
        typer.Argument(help="What they should be, line by line; several files are several references."),
    ],
    names: Annotated[
        str,
        typer.Option(
            "--metrics", help="With commas between: bleu, bleu_zh, chrf, chrf++, ter, rougeL, wer ..."
        ),
    ] = "bleu,chrf,rougeL",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score texts against references, each metric over the whole file with its interval.

    Example: orrery eval metrics translations.txt references.txt --metrics bleu,chrf++,ter
    """
    from orrery.cli.evaluation import print_metrics
    from orrery.data.source import read_text
    from orrery.evaluate.metrics.text_metrics import text_metrics

    lines = read_text(hypotheses).splitlines()
    given = zip(*(read_text(path).splitlines() for path in references), strict=False)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    found = text_metrics(lines, [list(texts) for texts in given], wanted)
    if json:
        print_json({name: estimate.to_dict() for name, estimate in found.items()})
        return
    print_metrics(found, lines=len(lines))


def _usual_folder(subject: Any, settings: dict[str, Any]) -> Path:
    """Where results go unless told: a folder for a model and a way of measuring it."""
    from orrery.kit.config import digest

    return Path("runs/eval") / f"{subject.name}-{digest([subject.fingerprint, settings], 8)}"


def _difference(difference: Any) -> dict[str, Any]:
    metrics = {name: metric.to_dict() for name, metric in difference.metrics.items()}
    return {"task": difference.task, "n": difference.n, "left_out": difference.left_out, "metrics": metrics}
