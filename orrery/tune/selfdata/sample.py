"""Make data by any method: read what is asked, let the model speak, write down what is kept.

made = sample(cfg, Subject.of(lm), root=Path("data"), out=Path("runs/made"))
made.account.numbers["pass_rate"]
"""

from __future__ import annotations

import json
from pathlib import Path

from orrery.evaluate.subject import Subject
from orrery.kit.config import digest, to_dict
from orrery.kit.files import atomic_write
from orrery.kit.json_lines import write_rows
from orrery.kit.log import Progress, Silent
from orrery.kit.seeds import key
from orrery.tune.rl.rewards import Learned
from orrery.tune.selfdata.account import Made
from orrery.tune.selfdata.asked import Asked, read_asked
from orrery.tune.selfdata.config import SampleConfig
from orrery.tune.selfdata.constitutional import Constitutional, sample_constitution
from orrery.tune.selfdata.majority import SelfConsistency, sample_majority
from orrery.tune.selfdata.records import Records
from orrery.tune.selfdata.rejection import Best, sample_best
from orrery.tune.selfdata.self_critique import Critique, sample_critiques
from orrery.tune.selfdata.self_instruct.loop import SelfInstruct, sample_instructions
from orrery.tune.selfdata.speaker import Speaker
from orrery.tune.selfdata.star import Star, sample_star

RECORDS = "records.jsonl"
EXAMPLES, PAIRS, ACCOUNT = "examples.jsonl", "pairs.jsonl", "account.json"


def sample(
    cfg: SampleConfig, subject: Subject, *, root: Path, out: Path | None = None, system: str = "", judge: Subject | None = None,
    learned: Learned | None = None, progress: Progress | None = None,
) -> Made:  # fmt: skip
    """Make data with `subject`, or go on with what is recorded in `out`.

    Args:
        system: a system message in front of what it is asked (not of what a judge is).
        judge: who prefers, for the method `constitution`; None: the subject itself.
        learned: the reward model, where the rewards name one.

    Raises:
        OrreryError: nothing to ask, prompts too long for the context, or `out` holds records of something else.
        Interrupted: a signal asked to stop; all that was said is recorded.
    """
    asked: list[Asked] = []
    if not isinstance(cfg.method, SelfInstruct):
        asked = read_asked(
            cfg.problems, cfg.prompts, root=root, heldout=cfg.heldout, limit=cfg.limit, seed=cfg.seed
        )
    records = Records(None if out is None else out / RECORDS, run=_run(cfg, subject, asked, system, judge))
    seed = key(cfg.seed, "round", cfg.round)
    speaker = Speaker(subject, records, seed=seed, system=system, progress=progress or Silent())
    try:
        match cfg.method:
            case Best():
                return sample_best(cfg.method, asked, speaker, cfg.speech, learned=learned)
            case Star():
                return sample_star(cfg.method, asked, speaker, cfg.speech)
            case SelfConsistency():
                return sample_majority(cfg.method, asked, speaker, cfg.speech)
            case SelfInstruct():
                return sample_instructions(cfg.method, speaker, cfg.speech, root=root)
            case Critique():
                return sample_critiques(cfg.method, asked, speaker, cfg.speech)
            case Constitutional():
                other = None if judge is None else Speaker(judge, records, seed=seed)
                return sample_constitution(cfg.method, asked, speaker, cfg.speech, judge=other)
    finally:
        records.close()


def write(made: Made, folder: Path) -> None:
    """examples.jsonl and account.json, and pairs.jsonl where there are pairs; the files are whole or not there."""
    write_rows(folder / EXAMPLES, made.examples)
    if made.pairs:
        write_rows(folder / PAIRS, made.pairs)
    atomic_write(folder / ACCOUNT, json.dumps(made.account.to_dict(), indent=2) + "\n")


def _run(cfg: SampleConfig, subject: Subject, asked: list[Asked], system: str, judge: Subject | None) -> str:
    """What records belong to: answers of another model or to other questions are none of ours."""
    models = [subject.fingerprint, None if judge is None else judge.fingerprint]
    return digest([to_dict(cfg), models, [one.id for one in asked], system], 16)
