"""Exhibits on reinforcement learning of a language model: verified rewards, rollouts, turns, and rewards that are gamed."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits._choosing import config, practised, taught, taught_to_calculate
from orrery.kit.config import resolve
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.tune.rl.advantage import advantages
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.credit import assign
from orrery.tune.rl.environment import Single, opener
from orrery.tune.rl.packing import Axis, micro_batches
from orrery.tune.rl.policy_loss import policy_loss
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.reading import Reader
from orrery.tune.rl.rollout import Speaker
from orrery.tune.rl.trajectory import Trajectory, Turn

ROUNDS = 24


@functools.cache
def _verified() -> tuple[LM, Sequence[Mapping[str, Any]]]:
    lm = taught().lm()
    return lm, practised(lm, config(), ROUNDS)


def _curve(name: str, lines: Sequence[Mapping[str, Any]], key: str, width: int = 4) -> Series:
    """Means over `width` rounds."""
    parts = [lines[i : i + width] for i in range(0, len(lines), width)]
    return Series(
        name=name,
        x=[part[0]["step"] for part in parts],
        y=[sum(line[key] for line in part) / len(part) for part in parts],
    )


def practice_with_verified_rewards() -> Exhibit:
    """A model that answers right and wrong alike learns from verdicts alone which is right."""
    lines = _verified()[1]
    return Exhibit(
        title="GRPO on checked answers",
        reads="The model was taught two answers to each question. A verdict a response, and nothing else, moves it to the right one; "
        "as it makes up its mind, more groups are unanimous and teach nothing.",
        series=[
            _curve("accuracy", lines, "accuracy"),
            _curve("right once in 8", lines, "group_accuracy"),
            _curve("dead groups", lines, "dead_groups"),
        ],
        x="round",
        y="share",
    )


def what_a_rollout_holds() -> Exhibit:
    """Answers through the engine, and the same tokens read by the trainer: how far their log-probabilities are apart."""
    start = taught()
    lm = start.lm()
    speaker = Speaker(engine=Engine(lm), max_tokens=8)
    problem = Problem(row={}, prompt='What is "stone".upper()?', target="STONE", score="verbatim")
    episodes = speaker.play([problem] * 8, opener(Single()), responses=8, seed=1)
    axis, reader = Axis.of(episodes, torch.device("cpu")), Reader(model=lm.model)
    rows = []
    for share in (False, True):
        micros = micro_batches(episodes, range(64), tokens=10_000, device=torch.device("cpu"), share=share)
        trained = max(float((reader.now(m).logprobs - axis.sampler[m.at]).abs().max()) for m in micros)
        served = max(float((reader.as_served(m)[0] - axis.sampler[m.at]).abs().max()) for m in micros)
        rows.append(
            ["prompt shared" if share else "each whole", len(axis.owner), sum(len(m.batch) for m in micros), f"{trained:.0e}", f"{served:.0e}"]
        )  # fmt: skip
    return Exhibit(
        title="64 answers, read again",
        reads="A pass by the engine's own kernels gives the very same numbers; training, whose kernels keep what gradients need, rounds "
        "otherwise in the seventh digit. Storing a prompt once for all its answers saves most of the pass.",
        columns=[
            "layout",
            "written tokens",
            "tokens in the pass",
            "gap, training kernels",
            "gap, serving kernels",
        ],
        rows=rows,
    )


def a_trajectory() -> Exhibit:
    """An episode of two turns as ids: what was read, what was written, what each turn earned."""
    one = _two_turns((0.0, 1.0))
    record = json.loads(json.dumps([{"read": t.read, "ids": t.ids, "reward": t.reward} for t in one.turns]))
    rows = [
        [place, id, "written" if place in one.places else "read", "1" if place in one.places else "0"]
        for place, id in enumerate(one.ids)
    ]
    return Exhibit(
        title="one episode on the token axis",
        reads=f"Only written ids carry loss; the observation between the turns (5) does not. The record goes to JSON and back: {record[1]}.",
        columns=["place", "id", "by", "loss"],
        rows=rows,
    )


def _two_turns(rewards: tuple[float, float], group: int = 0) -> Trajectory:
    problem = Problem(row={}, prompt="", target="", score="verbatim")
    parts = (((1, 2), (3, 4)), ((5,), (6,)))
    turns = tuple(
        Turn(read=read, ids=ids, logprobs=(-1.0,) * len(ids), text="x", raw="x", whole=True, reward=reward)
        for (read, ids), reward in zip(parts, rewards, strict=True)
    )
    return Trajectory(problem=problem, group=group, turns=turns).scored(rewards, {})


def credit_by_turns() -> Exhibit:
    """Four episodes of two turns: what each turn is credited with, for the episode as a whole and for what came after it."""
    earned = [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0)]
    episodes = [_two_turns(rewards) for rewards in earned]
    axis = Axis.of(episodes, torch.device("cpu"))
    rows = []
    found = {}
    for credit in ("episode", "turn"):
        cfg = resolve(
            RlConfig, {"problems": [{"generator": {"name": "arithmetic"}}], "algorithm": {"kind": "dr-grpo"}, "credit": credit}
        )  # fmt: skip
        found[credit] = assign(cfg, axis, episodes).advantages
    for r, rewards in enumerate(earned):
        first, second = (axis.owner == r).nonzero().flatten()[[0, -1]].tolist()
        rows.append(
            [str(rewards), *(f"{found[c][t]:+.2f}" for c in ("episode", "turn") for t in (first, second))]
        )
    return Exhibit(
        title="advantages of two turns",
        reads="As a whole, the first two episodes are alike: every token gets 0. By turns, the second turn of the first episode is blamed, "
        "and that of the second praised: a reward can only be owed to what came before it.",
        columns=["rewards", "turn 1, episode", "turn 2, episode", "turn 1, by turns", "turn 2, by turns"],
        rows=rows,
    )


def a_reward_is_hacked() -> Exhibit:
    """A reward that pays for lower-case words, meant as a form: the proxy rises, and what was wanted falls."""
    cfg = config(rewards=[{"kind": "format", "pattern": "[a-z]+", "when": "always", "weight": 1.0}])
    lines = practised(taught().lm(), cfg, ROUNDS)
    return Exhibit(
        title="a proxy and what it stands for",
        reads="The reward only asks for one word in small letters, as a clean answer would be in most tasks; here the right answers are in "
        "capitals. The policy finds what is paid for within a few rounds, and accuracy, which nobody paid for, goes to nothing.",
        series=[_curve("proxy reward", lines, "reward"), _curve("accuracy", lines, "accuracy")],
        x="round",
        y="mean over answers",
    )


ANSWERS = 512


def proxy_and_gold() -> Exhibit:
    """A proxy that agrees with the gold reward on most answers and errs on a few: both against the distance from the start."""
    g = torch.Generator().manual_seed(4)
    gold = torch.randn(ANSWERS, generator=g)
    proxy = gold + 0.5 * torch.randn(ANSWERS, generator=g)
    proxy[:6] += 6.0  # what the reward model never saw
    gold[:6] -= 2.0
    start = torch.zeros(ANSWERS).log_softmax(0)
    curves: dict[str, list[tuple[float, float]]] = {
        "proxy, RL": [],
        "gold, RL": [],
        "proxy, best of n": [],
        "gold, best of n": [],
    }
    logits = torch.zeros(ANSWERS, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.02)
    for step in range(400):
        logp = logits.log_softmax(0)
        p = logp.detach().exp()
        if step % 20 == 0:
            distance = float((p * (logp.detach() - start)).sum()) ** 0.5
            curves["proxy, RL"].append((distance, float(p @ proxy)))
            curves["gold, RL"].append((distance, float(p @ gold)))
        drawn = torch.multinomial(p, 256, replacement=True, generator=g)
        gained = advantages("global", proxy[drawn], torch.zeros(256, dtype=torch.int64))
        owner = torch.arange(256)
        loss = policy_loss("reinforce", logp[drawn] - logp[drawn].detach(), logp[drawn], gained, owner)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    order = proxy.argsort()
    share = torch.arange(1, ANSWERS + 1) / ANSWERS
    for n in (1, 2, 4, 8, 16, 32, 64, 128):
        best = torch.empty(
            ANSWERS
        )  # the chance of an answer to be the best of n: (k / N)^n - ((k - 1) / N)^n
        best[order] = share**n - (share - 1 / ANSWERS) ** n
        distance = float((best * (best.clamp(min=1e-30).log() - start)).sum().clamp(min=0)) ** 0.5
        curves["proxy, best of n"].append((distance, float(best @ proxy)))
        curves["gold, best of n"].append((distance, float(best @ gold)))
    return Exhibit(
        title="more of the proxy is not more of the gold",
        reads="At first both rise together. Beyond some distance only the proxy does: what it overrates is rare, and it takes pressure to "
        "find it.",
        series=[
            Series(name=name, x=[x for x, _ in points], y=[y for _, y in points])
            for name, points in curves.items()
        ],
        x="square root of KL from the start",
        y="reward",
    )


def words_of_second_thought() -> Exhibit:
    """The log of a run tracks words such as "wait" and the length of answers; here, their first rise."""
    lines = _verified()[1]
    lengths, words = (
        _curve("tokens an answer", lines, "length"),
        _curve("answers with such words", lines, "reflection"),
    )
    rise = next((x for x, y in zip(words.x, words.y, strict=True) if y > 0), None)
    told = "They never appear in this run."
    if rise is not None:
        told = f'They first appear about round {rise}: "WAIT" is the right answer to `"wait".upper()`. Words are counted, not thoughts.'
    return Exhibit(
        title="length and words of second thought over rounds",
        reads=f"{told} A rise of such words and of length in a long run is what was called an aha moment; the words also stand in base "
        "models' answers, so their number before the first round belongs beside it.",
        series=[lengths, words],
        x="round",
        y="tokens, share",
    )


def practice_without_lessons() -> Exhibit:
    """From a model that only ever read on over such text, no lessons and no chat format: reward and length over rounds."""
    lines = practised(
        taught(chat=False).lm(), config(rollout={"prompts": 8, "responses": 8, "max_tokens": 8}), ROUNDS
    )
    return Exhibit(
        title="practice without lessons",
        reads="What the start can do now and then, verdicts make more frequent; what it never does has no verdict to learn from.",
        series=[_curve("reward", lines, "reward"), _curve("tokens an answer", lines, "length")],
        x="round",
        y="mean over answers",
    )


def practice_with_a_tool() -> Exhibit:
    """A model that guesses products or works them out with a calculator, half and half; only the answer is judged."""
    cfg = config(
        problems=[{"paths": ["products.jsonl"]}],
        environment={"kind": "calculator", "turns": 2},
        rollout={"prompts": 8, "responses": 8, "max_tokens": 12},
    )
    lines = practised(taught_to_calculate().lm(), cfg, ROUNDS)
    return Exhibit(
        title="a tool is used because it pays",
        reads="Nobody pays for calls. They lead to right answers and guesses do not, so calls become frequent; what the calculator wrote is "
        "read, but carries no loss.",
        series=[
            _curve("accuracy", lines, "accuracy"),
            _curve("calls an episode", [{**line, "calls": line["turns"] - 1} for line in lines], "calls"),
        ],
        x="round",
        y="mean over episodes",
    )
