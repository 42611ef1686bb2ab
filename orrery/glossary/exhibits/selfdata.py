"""Exhibits on data that a model makes itself: rejection sampling, reasons with hints, new instructions, a constitution, AI preferences."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits._choosing import GENERATED, Start, config, loop, taught
from orrery.glossary.exhibits._reasoning import (
    HINT,
    hard_questions,
    quiet_folder,
    taught_to_reason,
    write_questions,
)
from orrery.kit.config import resolve
from orrery.kit.json_lines import write_rows
from orrery.kit.log import read_jsonl
from orrery.serve.lm import LM
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.rl.problems import read_problems
from orrery.tune.rl.trainer import reinforce
from orrery.tune.selfdata.account import Made
from orrery.tune.selfdata.best_of_n import best_of_n_distribution, best_of_n_kl, best_of_n_win_rate, kl
from orrery.tune.selfdata.config import SampleConfig
from orrery.tune.selfdata.rounds import improve, learn
from orrery.tune.selfdata.sample import EXAMPLES
from orrery.tune.selfdata.self_instruct.filters import Pool, instruction_fault

ROWS = ExampleLoaderConfig(context=64, rows=8)


def _rounds(start: Start, cfg: SampleConfig, steps: int, rounds: int, **more: Any) -> list[Made]:
    with quiet_folder() as folder:
        write_questions(folder / "q.jsonl")
        found = improve(
            cfg, loop(steps), lm=start.lm(), out=folder, root=folder, rounds=rounds, loader=ROWS, **more
        )
        return [one.made for one in itertools.islice(found, rounds)]


def rejection_sampling_rounds() -> Exhibit:
    """Four answers to each question, the right ones learned, and again with the model that learned."""
    cfg = {
        "method": {"kind": "best", "n": 4, "most": 1},
        "problems": [{"generator": GENERATED}],
        "limit": 40,
        "speech": {"max_tokens": 8},
    }
    made = _rounds(taught(), resolve(SampleConfig, cfg), 8, 4)
    rows = []
    for number, one in enumerate(made):
        numbers, account = one.account.numbers, one.account
        rows.append(
            (
                number,
                numbers["mean_reward"],
                numbers["best_reward"],
                account.drawn,
                account.kept,
                account.filtered["wrong"],
            )
        )
    return Exhibit(
        title="learning from its own right answers",
        reads="The best of four of one round is about the usual answer of the next. What is never drawn right is never learned: the curve "
        "flattens below the share of questions that are solved at all.",
        columns=("round", "mean reward", "best of 4", "drawn", "kept", "wrong"),
        rows=rows,
    )  # fmt: skip


def best_of_n_divergence() -> Exhibit:
    """How far the best of n moves from the policy, and how often it beats one draw: exact over 200 listed answers, and by formula."""
    generator = torch.Generator().manual_seed(5)
    logprobs = torch.randn(200, generator=generator).log_softmax(0)
    rewards = torch.randn(200, generator=generator)
    p = logprobs.double().exp()
    rows = []
    for n in (1, 2, 4, 8, 16, 64):
        q = best_of_n_distribution(logprobs, rewards, n)
        beats = sum(float(q[i] * (p[rewards < rewards[i]].sum() + p[i] / 2)) for i in range(200))
        rows.append(
            (n, kl(q, logprobs), best_of_n_kl(n), beats, best_of_n_win_rate(n), float(q @ rewards.double()))
        )
    return Exhibit(
        title="the best of n: distance from the policy and gain",
        reads="The formula is a bound that is nearly reached while n is small against the number of answers; then the same few are always "
        "the best, and the distance stops growing. Reward grows ever more slowly: the distance is the logarithm of the work.",
        columns=("n", "KL exact (nats)", "log n - (n - 1)/n", "wins exact", "n/(n + 1)", "reward"),
        rows=rows,
    )


def reasons_with_and_without_hints() -> Exhibit:
    """Learning from reasons that led to right answers, with and without those that were given once the answer was told."""
    series = []
    for told in (True, False):
        cfg = {
            "method": {"kind": "star", "n": 1, "hint": HINT, "rationalise": told},
            "problems": [{"paths": ["q.jsonl"], "score": "numeric"}],
            "speech": {"max_tokens": 24, "temperature": 0.0},
        }
        made = _rounds(taught_to_reason(), resolve(SampleConfig, cfg), 16, 3, restart=True)
        rates = [float(one.account.numbers["pass_rate"] or 0) for one in made]
        series.append(Series(name="with hints" if told else "without", x=list(range(3)), y=rates))
    return Exhibit(
        title="accuracy over rounds of learning from own reasons",
        reads="Half of the questions are of a kind that is not solved at first. A hint makes reasons for them that can be learned at once; "
        "without it they stay unsolved, for a model learns nothing from what it never gets right. The hint is in no row that is learned.",
        series=series,
        x="round",
        y="right answers",
    )


PROPOSED = (
    "Write a poem about the first snow of the year.", "Write a short poem about the first snow of the year.", "Explain it.",
    "Describe what is going on in this picture.", "Sort the words by their length and", "Name three rivers that flow north.",
    "Give an example of a promise that should be broken.", "good good good good good good good",
)  # fmt: skip


def instructions_that_are_kept() -> Exhibit:
    """Proposed instructions, the likest one there is by ROUGE-L, and what becomes of them."""
    pool = Pool(
        [
            "Write a poem about the last day of summer.",
            "Sort a list of numbers.",
            "Name three animals that can fly.",
        ]
    )
    rows = []
    for text in PROPOSED:
        fault, near = instruction_fault(text), pool.nearest(text).similarity
        if fault is None and near >= 0.7:
            fault = "too like one there is"
        if fault is None:
            pool.add(text)
        rows.append((text, near, fault or "kept"))
    return Exhibit(
        title="filters of new instructions",
        reads="Each kept instruction is one more that later ones are compared with, so a model that repeats itself runs dry: the pool stays "
        "varied in its words, which is not yet to say in its matter.",
        columns=("proposed", "nearest ROUGE-L", "what becomes of it"),
        rows=rows,
    )


def practice_after_a_cold_start() -> Exhibit:
    """Reinforcement learning of reasons on questions that are hardly ever solved: at once, and after four worked examples were taught."""
    series = []
    for examples in (0, 4):
        with quiet_folder() as folder:
            rows = hard_questions()
            lm = taught_to_reason().lm()
            if examples:
                write_rows(folder / EXAMPLES, [row["worked"] for row in rows[:examples]])
                learn(folder / EXAMPLES, loop(10), lm=lm, out=folder / "cold", loader=ROWS)
            write_rows(folder / "q.jsonl", rows[4:])
            lines = _practised(lm, folder, 9)
        series.append(
            Series(
                name=f"{examples} examples first" if examples else "at once",
                x=list(range(len(lines))),
                y=lines,
            )
        )
    return Exhibit(
        title="practice with and without a cold start",
        reads="Without right answers there is nothing to reward. A few worked examples do not teach the questions (they are others), but how "
        "such questions are gone about; practice does the rest.",
        series=series,
        x="round of practice",
        y="right answers",
    )


def _practised(lm: LM, folder: Path, rounds: int) -> list[float]:
    """Accuracy in so many rounds on the questions of a folder."""
    cfg = config(
        problems=[{"paths": ["q.jsonl"], "score": "numeric"}], heldout=0,
        rollout={"prompts": 8, "responses": 8, "max_tokens": 24},
    )  # fmt: skip
    problems = read_problems(cfg.problems, root=folder, heldout=0)
    reinforce(cfg, loop(rounds), lm=lm, problems=problems, out=folder / "rl")
    lines = read_jsonl(folder / "rl" / "metrics.jsonl")
    return [float(line["accuracy"]) for line in lines]
