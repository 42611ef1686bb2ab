"""The end of a run: a summary in the terminal, `report.md`, and a self-contained `report.html`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orrery.cli.pipeline import lessons
from orrery.kit.artifact import Receipt
from orrery.kit.files import atomic_write
from orrery.kit.log import console, read_jsonl

if TYPE_CHECKING:
    from orrery.cli.pipeline.runner import Run


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that the three forms of the report show."""

    name: str
    out: Path
    model: Path
    receipts: dict[str, Receipt]
    seconds: dict[str, float]
    reused: set[str]
    metrics: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    evaluation: dict[str, Any] | None
    generations: list[dict[str, Any]]
    lessons: list[lessons.Lesson]
    practices: list[lessons.Practice]
    others: list[tuple[str, str]]
    scores: list[lessons.Scored]

    @property
    def train(self) -> dict[str, Any] | None:
        return next((r.effects for r in self.receipts.values() if r.operation == "train"), None)

    @property
    def data(self) -> dict[str, Any]:
        return next((r.effects for r in self.receipts.values() if r.kind == "data"), {})

    @property
    def tokenizer(self) -> dict[str, Any]:
        return next((r.effects for r in self.receipts.values() if r.kind == "tokenizer"), {})

    def ranking(self) -> list[tuple[str, float, bool]]:
        """(name, bits per byte, is the model), best first."""
        if not self.evaluation:
            return []
        rows = [
            (row["name"], row["bits_per_byte"], row["kind"] == "model") for row in self.evaluation["rows"]
        ]
        return sorted(rows, key=lambda row: row[1])


def write_report(run: Run) -> Findings:
    """Gather a run's findings, write both files, print the summary."""
    findings = gather(run)
    from orrery.cli.pipeline.report_html import html

    atomic_write(run.out / "report.md", markdown(findings))
    atomic_write(run.out / "report.html", html(findings))
    say(findings)
    return findings


def gather(run: Run) -> Findings:
    """Read what the report shows from the finished stages."""
    made = [name for name, receipt in run.receipts.items() if receipt.kind in ("model", "adapter")]
    evaluate, generate = run.stage("evaluate"), run.stage("generate")
    model = run.folders[run.stage("train") or made[-1]]
    return Findings(
        name=run.recipe.name,
        out=run.out,
        model=run.folders[made[-1]],
        receipts=run.receipts,
        seconds=run.seconds,
        reused=run.reused,
        metrics=read_jsonl(model / "metrics.jsonl"),
        samples=read_jsonl(model / "samples.jsonl"),
        evaluation=json.loads((run.folders[evaluate] / "evaluation.json").read_text()) if evaluate else None,
        generations=json.loads((run.folders[generate] / "generations.json").read_text()) if generate else [],
        lessons=lessons.lessons(run),
        practices=lessons.practices(run),
        others=lessons.others(run),
        scores=lessons.scores(run),
    )


def verdict(findings: Findings) -> str:
    """In a sentence or two: did the model learn, next to counting and compression; and what teaching it changed."""
    return " ".join(part for part in (_learned(findings), lessons.verdict(findings.scores)) if part)


def _learned(findings: Findings) -> str:
    ranking = findings.ranking()
    if not ranking:
        taught = findings.train or (findings.lessons[-1].effects if findings.lessons else None)
        return f"The model reached a training loss of {taught['loss']:.3f} nats a token." if taught else ""
    own = next(value for _, value, is_model in ranking if is_model)
    beaten = [name for name, value, is_model in ranking if not is_model and value > own]
    better = [name for name, value, is_model in ranking if not is_model and value <= own]
    text = f"The model needs {own:.3f} bits per byte of text it has never seen"
    if beaten:
        text += f", less than {_listed(beaten)}"
    if better:
        text += f"; {_listed(better)} still {'do' if len(better) > 1 else 'does'} better"
    return text + "."


def advice(findings: Findings) -> list[str]:
    """What to try next, from what was measured."""
    train, out = findings.train, findings.out
    talk = f"Talk to it: `orrery chat {out}`, or serve it: `orrery serve {out}`."
    if train is None:
        return [talk, f"See where it comes from: `orrery lineage {out}`."]
    ranking = findings.ranking()
    minutes = train["seconds"] / 60
    tips = []
    longer = max(10, round(3 * minutes))
    tips.append(
        ("Counting still wins: train longer" if ranking and not ranking[0][2] else "Train longer")
        + f": add `--minutes {longer}` (or `stages.train.loop.minutes={longer}`) to the same command; tokenizer and data are kept."
    )
    epochs = train.get("epochs", 0)
    if epochs < 1:
        tips.append(
            f"Only {epochs:.0%} of the training tokens were read; there is no need for more text before more time."
        )
    elif epochs > 4:
        tips.append(
            f"The text was read {epochs:.1f} times; more text (`--text PATHS`) will now help more than more steps."
        )
    gap = train.get("generalization_gap")
    if gap is not None and gap > 0.3 and epochs >= 1:
        tips.append(
            f"Held-out loss is {gap:.2f} nats above training loss: it begins to overfit; add text, or set `stages.train.model.dropout=0.1`."
        )
    if findings.seconds and minutes >= 3:
        tips.append(
            "A bigger model pays when it has the time: `stages.train.model.n_layers=6` with `--minutes 30`."
        )
    tips.append(talk)
    tips.append(
        f"See how surprised it is: `orrery score {out} YOUR_FILE`. See where it comes from: `orrery lineage {out}`."
    )
    return tips


def markdown(findings: Findings) -> str:
    """The report as Markdown."""
    lines = [f"# {findings.name}", "", verdict(findings), ""]
    if findings.ranking():
        lines += ["| on held-out documents | bits per byte |", "|---|---|"]
        lines += [
            f"| {'**' if own else ''}{name}{'**' if own else ''} | {value:.3f} |"
            for name, value, own in findings.ranking()
        ]
        lines.append("")
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts(findings)]
    lines.append("")
    lines += _taught(findings)
    if findings.generations:
        lines += ["## What it says", ""]
        for item in findings.generations:
            lines += ["```", item["prompt"] + item["text"], "```", ""]
    if findings.samples:
        lines += ["## As training went on", ""]
        for item in findings.samples:
            lines += [f"Step {item['step']}:", "", "```", item["text"], "```", ""]
    lines += ["## What to try next", ""] + [f"- {tip}" for tip in advice(findings)]
    lines += [
        "",
        f"The model is in `{findings.model}`; any Hugging Face tool opens it.",
    ]
    return "\n".join(lines) + "\n"


def _taught(findings: Findings) -> list[str]:
    """What teaching changed, as Markdown."""
    lines = []
    for lesson in findings.lessons:
        lines += [
            f"## {lesson.name}: loss on held-out examples",
            "",
            "| set | nats a token before | after |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {before:.3f} | {after:.3f} |" for name, before, after in lesson.heldout()]
        lines.append("")
    if findings.scores:
        head, *rows = lessons.table(findings.scores)
        lines += ["## Answers", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines += ["", lessons.NOTE + ".", ""]
        for task, shown in lessons.answers(findings.scores):
            lines += [f"What {findings.scores[-1].model} says ({task}):", ""]
            for record in shown:
                mark = "right" if lessons.right(record) else f"not {str(record.gold).strip()}"
                lines += ["```", record.own, f"> {record.answer}    ({mark})", "```", ""]
    return lines


def facts(findings: Findings) -> list[tuple[str, str]]:
    """The table of numbers: what was read, what was trained, how fast."""
    train, data, tokenizer = findings.train, findings.data, findings.tokenizer
    rows = []
    if data:
        train_part, heldout = data["splits"]["train"], data["splits"]["heldout"]
        dropped = sum(data["documents"]["dropped"].values())
        text = f"{train_part['documents']:,} documents, {train_part['bytes'] / 1e6:.1f} MB, {train_part['tokens']:,} tokens"
        rows.append(("text", text))
        held = f"{heldout['documents']:,} documents, {heldout['bytes'] / 1e6:.2f} MB; {dropped:,} dropped"
        rows.append(("held out", held))
    if tokenizer:
        rows.append(
            (
                "tokenizer",
                f"{tokenizer['vocab_size']:,} tokens, {tokenizer['bytes_per_token']:.2f} bytes a token",
            )
        )
    if train is not None:
        rows += _training(train)
    for lesson in findings.lessons:
        told = lesson.effects
        share = told["share"] if isinstance(told["share"], str) else ""
        text = f"{told['steps']:,} steps, {told['supervised']:,} supervised tokens in {told['seconds'] / 60:.1f} minutes; {share}"
        rows.append((lesson.name, text))
        if told.get("kl_to_parent") is not None:
            rows.append(
                (f"{lesson.name}: distance from its parent", f"{told['kl_to_parent']:.3f} nats a token (KL)")
            )
    rows += [(practice.name, practice.told()) for practice in findings.practices]
    rows += findings.others
    kept = (
        f"{name} {'kept' if name in findings.reused else f'{s:.0f} s'}"
        for name, s in findings.seconds.items()
    )
    return [*rows, ("time", ", ".join(kept))]


def _training(train: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("model", f"{train['parameters']:,} parameters"),
        ("training", f"{train['steps']:,} steps, {train['tokens']:,} tokens ({train['epochs']:.2f} epochs) in {train['seconds'] / 60:.1f} minutes"),
        ("speed", f"{train['tokens_per_s']:,.0f} tokens/s, {train['utilization']:.0%} of this machine's matmul peak"),
        ("loss", f"{train['loss']:.3f} nats a token at the end" + (f", {train['validation']:.3f} held out" if train.get("validation") else "")),
        ("steps skipped / spikes", f"{train['skipped']} / {train['spikes']}"),
    ]  # fmt: skip


def say(findings: Findings) -> None:
    """The summary in the terminal."""
    from rich.table import Table

    console.print()
    if findings.ranking():
        table = Table(title="bits per byte of held-out documents (less is better)", title_justify="left")
        table.add_column("")
        table.add_column("bits per byte", justify="right")
        for name, value, own in findings.ranking():
            style = "bold green" if own else ""
            table.add_row(name, f"{value:.3f}", style=style)
        console.print(table)
    if findings.scores:
        console.print(_score_table(findings))
    for name, value in facts(findings):
        console.print(f"[dim]{name:>22}[/]  {value}", highlight=False, soft_wrap=True)
    if findings.generations:
        item = findings.generations[0]
        console.print("\n[bold]It says[/]")
        console.print(item["prompt"], style="cyan", end="", markup=False, highlight=False, soft_wrap=True)
        console.print(item["text"], markup=False, highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{verdict(findings)}[/]", highlight=False, soft_wrap=True)
    console.print("\n[bold]What to try next[/]")
    for tip in advice(findings):
        console.print(f"  - {tip}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"\nwrote {findings.out / 'report.html'}, {findings.out / 'report.md'}, model in {findings.model}",
        highlight=False,
        soft_wrap=True,
    )


def _score_table(findings: Findings) -> Any:
    from rich.table import Table

    table = Table(title="answers: the share that is right", title_justify="left")
    models = list(dict.fromkeys(one.model for one in findings.scores))
    for heading in ("", *models, "change, with its 95% interval"):
        table.add_column(heading, no_wrap=heading == "")
    for row in lessons.rows(findings.scores):
        means = (f"{row.means[model]:.3f}" if model in row.means else "" for model in models)
        last = f"\n{row.last} by {models[-1]}" if row.last else ""
        table.add_row(f"{row.task}\n({row.metric}, {row.n})", *means, row.change + last)
    return table


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
