"""`orrery eval judge` and `orrery eval pairs`: answers judged by a model, and a model asked which of two answers is better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orrery.cli.answers import ANSWERER, WHO
from orrery.cli.common import MODEL, print_json


def judge(
    a: Annotated[str, typer.Argument(help=f"Who answers: {ANSWERER}")],
    b: Annotated[
        str | None, typer.Argument(help="Whom it is compared with; without it, A's answers are graded.")
    ] = None,
    *,
    by: Annotated[str, typer.Option("--judge", help=f"Who judges: {WHO}.")],
    questions: Annotated[
        Path, typer.Option(help="JSON lines with turns (or prompt), as MT-Bench's question.jsonl.")
    ],
    references: Annotated[
        Path | None,
        typer.Option(help="Right answers (default: reference_answer.jsonl beside the questions, if there)."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts for the judge in MT-Bench's format, instead of ours.")
    ] = None,
    rubric: Annotated[
        str | None,
        typer.Option(
            help="Grades by criteria (without B): 'helpful', or a YAML file with criteria, low, high."
        ),
    ] = None,
    others: Annotated[
        Path | None,
        typer.Option(
            help="Votes of `orrery arena`, or another judge's judgements.jsonl: agreement, self-preference."
        ),
    ] = None,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Also judge pairs of equal quality: what place and length are worth."
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Only so many questions.", min=1)] = None,
    max_tokens: Annotated[
        int, typer.Option(help="At most this many tokens a turn of an answer.", min=1)
    ] = 512,
    explain: Annotated[int, typer.Option(help="Characters of reasons before a verdict.", min=0)] = 400,
    out: Annotated[Path | None, typer.Option(help="Folder for answers, judgements and results.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Have a model judge answers: two models' in both orders, or one model's by grades. What cannot be read is unscored.

    Example: orrery eval judge runs/sft runs/base --judge models/judge --questions question.jsonl --controls
    """
    from orrery.cli.answers import answers_of, chat_model
    from orrery.evaluate.judge.controls import judge_controls
    from orrery.evaluate.judge.grading import grade_answers
    from orrery.evaluate.judge.pairwise import judge_pairs
    from orrery.evaluate.judge.prompts import PROMPTS, read_prompts
    from orrery.evaluate.judge.questions import read_questions
    from orrery.evaluate.judge.summary import grade_summary, pair_summary, plain
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console

    if b is not None and rubric is not None:
        raise OrreryError("a rubric grades one model's answers; leave B out, or the rubric")
    asked = read_questions(questions, references)[:limit]
    answers = answers_of([who for who in (a, b) if who is not None], asked, max_tokens=max_tokens)
    given = PROMPTS if prompts is None else read_prompts(prompts)
    how: dict[str, Any] = {"prompts": given, "explain": explain}
    known = None if others is None else _others(others, answers)
    model = chat_model(by)
    with console.status(f"{model.name} judges {len(asked)} questions ..."):
        if b is not None:
            judged = judge_pairs(model, asked, *answers, **how)
            summary = pair_summary(judged, known)
        else:
            judged = grade_answers(model, asked, answers[0], rubric=_rubric(rubric), **how)
            summary = grade_summary(judged)
        if controls:
            summary["controls"] = plain(judge_controls(model, asked, answers[0], **how))
    summary = {"models": [given.model for given in answers], "judge": model.name, **summary}
    if out is not None:
        _write(out, answers, judged, summary)
    if json:
        print_json(summary)
        return
    _tell(summary)
    if out is not None:
        console.print(f"written to {out}", highlight=False)


def pairs(
    model: Annotated[Path, typer.Argument(help=MODEL)],
    file: Annotated[
        Path, typer.Argument(help="JSON lines with prompt, chosen, rejected, and subset or category.")
    ],
    per: Annotated[
        Literal["text", "token", "byte"],
        typer.Option(help="Compare log-probabilities of whole answers, or by length."),
    ] = "text",
    chat: Annotated[
        bool | None,
        typer.Option("--chat/--no-chat", help="Ask by the chat format (default: where there is one)."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many pairs, evenly spread.", min=1)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """How often a model finds the better of two answers likelier, or a reward model scores it higher (RewardBench, HHH), by category.

    Example: orrery eval pairs gemma-3-270m hhh.jsonl --per byte

    Example: orrery eval pairs runs/reward hhh.jsonl
    """
    import orrery
    from orrery.evaluate.judge.reward import likelihood_scorer, pair_accuracy, read_pairs
    from orrery.evaluate.judge.summary import plain
    from orrery.tune.reward.folder import find_reward, load_reward
    from orrery.tune.reward.measure import pair_calibration
    from orrery.tune.reward.model import as_learned

    given = read_pairs(file)
    count = min(limit or len(given), len(given))
    given = [given[i * len(given) // count] for i in range(count)]
    judge_folder = find_reward(model)
    scorer = (
        likelihood_scorer(orrery.load(model), per=per, chat=chat)
        if judge_folder is None
        else as_learned(load_reward(judge_folder))
    )
    scores: list[float] = []
    found = pair_accuracy(given, lambda said: scores.extend(scorer(said)) or scores)
    told = plain(found) | ({"section_mean": found.section_mean} if found.sections else {})
    if judge_folder is not None:
        told["calibration"] = pair_calibration(scores)
    if json:
        print_json(told)
        return
    rows = [*((name, _shown(e)) for name, e in told["categories"].items()), ("all", _shown(told["accuracy"]))]
    rows += [(f"section {name}", f"{value:.3f}") for name, value in found.sections.items()]
    rows += [("sections' mean", f"{found.section_mean:.3f}")] if found.sections else []
    rows += [(f"calibration: {name}", f"{value:.3f}") for name, value in told.get("calibration", {}).items()]
    title = "better answer is likelier" if judge_folder is None else "better answer scores higher"
    _table((title, "share [95%]"), [*rows, ("unscored pairs", str(found.unscored))])


def _others(path: Path, answers: Any) -> dict[tuple[str, int], str]:
    """Verdicts by somebody else on A and B, from a file of votes or of judgements."""
    from orrery.evaluate.arena.votes import majority, read_votes
    from orrery.evaluate.judge.agreement import winners
    from orrery.evaluate.judge.pairwise import Judged
    from orrery.kit.json_lines import read_rows

    first, second = (given.model for given in answers)
    rows = read_rows(path, torn=True)
    if rows and "arena" in rows[0]:
        return majority(read_votes(path), first, second)
    read = [Judged.from_dict(row) for row in rows]
    flipped = {"a": "b", "b": "a", "tie": "tie"}
    turned = winners([judged for judged in read if (judged.a, judged.b) == (second, first)])
    return winners([judged for judged in read if (judged.a, judged.b) == (first, second)]) | {
        key: flipped[winner] for key, winner in turned.items()
    }


def _rubric(given: str | None) -> Any:
    """'helpful', a file, or none."""
    if given is None:
        return None
    from orrery.evaluate.judge.grading import HELPFUL, Rubric
    from orrery.kit.config import load

    return HELPFUL if given == "helpful" else load(Rubric, given)


def _write(out: Path, answers: Any, judged: Any, summary: Mapping[str, Any]) -> None:
    import json

    from orrery.evaluate.judge.questions import write_answers
    from orrery.kit.files import atomic_write
    from orrery.kit.json_lines import write_rows

    for letter, given in zip("ab", answers, strict=False):
        write_answers(out / f"answers-{letter}.jsonl", given)
    write_rows(out / "judgements.jsonl", [one.to_dict() for one in judged])
    atomic_write(out / "results.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


def _tell(found: Mapping[str, Any]) -> None:
    """The summary as a table."""
    first, *second = found["models"]
    if second:
        title = f"{first} against {second[0]}, judged by {found['judge']}"
        rows = [
            ("wins, ties, losses", f"{found['wins']}, {found['ties']}, {found['losses']}"),
            ("win rate", _shown(found["win_rate"])),
        ]
        if "length_bias" in found:
            bias, length = found["position_bias"], found["length_bias"]
            rows += [
                ("win rate at equal length", _shown(length["controlled"])),
                ("length coefficient (logit)", _shown(length["coefficient"])),
                ("standing first is worth", _shown(bias["first"])),
                ("same verdict in both orders", _shown(bias["consistent"])),
            ]
        rows += [(f"  {name}", _shown(e)) for name, e in found["categories"].items()]
        rows += [("unscored judgements", f"{found['unscored']} of {found['judgements']}")]
    else:
        title = f"{first}, graded by {found['judge']}"
        rows = [("grade", _shown(found["grade"]))]
        for part in ("criteria", "turns", "categories"):
            rows += [
                (f"  {'turn ' if part == 'turns' else ''}{name}", _shown(e))
                for name, e in found[part].items()
            ]
        rows += [("unscored answers", f"{found['unscored']} of {found['answers']}")]
    if "agreement" in found:
        rows += [("agreement with the others", _shown(found["agreement"]["same"])), ("kappa", _shown(found["agreement"]["kappa"]))]  # fmt: skip
    if "self_preference" in found:
        rows += [("own answers, beyond the others' view", _shown(found["self_preference"]))]
    if "controls" in found:
        controls = found["controls"]
        rows += [
            ("equal answers: standing first is worth", _shown(controls["place"]["first"])),
            ("an answer said twice is worth", _shown(controls["padded"])),
            ("controls unscored", f"{controls['unscored']} of {controls['asked']}"),
        ]
    _table((title, "[95%]"), rows)


def _shown(e: Mapping[str, Any]) -> str:
    if e["mean"] is None:
        return "-"
    between = "" if e["low"] is None else f" [{e['low']:.3f}, {e['high']:.3f}]"
    return f"{e['mean']:.3f}{between}  n={e['n']}"


def _table(columns: tuple[str, ...], rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
