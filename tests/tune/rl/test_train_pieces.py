"""What stands between answers and updates: environments, rollouts, packing, credit, the order of problems, routers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch

from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.kit.sandbox import SandboxUnavailable
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.lowbit import backend
from orrery.model.mlp import Mlp
from orrery.model.moe import MoE, Moe
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.credit import assign
from orrery.tune.rl.curriculum import Curriculum, Draws
from orrery.tune.rl.environment import Attempts, CalculatorTool, PythonTool, Single, Step, opener
from orrery.tune.rl.packing import Axis, micro_batches, minibatches
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.reading import Reader
from orrery.tune.rl.rollout import Speaker
from orrery.tune.rl.trajectory import Trajectory, Turn


def problem(target: str = "4", prompt: str = "what is 2 + 2 ?", part: int = 0, id: str = "p") -> Problem:
    return Problem(row={}, prompt=prompt, target=target, score="verbatim", part=part, id=id)


def trajectory(*turns: tuple[Sequence[int], Sequence[int], float], group: int = 0) -> Trajectory:
    """Turns as (read, written, reward)."""
    made = tuple(
        Turn(read=tuple(read), ids=tuple(ids), logprobs=(-1.0,) * len(ids), text="x", raw="x", whole=True, reward=reward)
        for read, ids, reward in turns
    )  # fmt: skip
    return Trajectory(problem=problem(), group=group, turns=made).scored([turn.reward for turn in made], {})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    text = "what is 2 + 2 ? 4 5 6 that is not right . try again . print python\n" * 20
    return train_tokenizer([text], TokenizerConfig(vocab_size=320))


def small(tokenizer: Tokenizer, **changes: object) -> LM:
    shape: dict[str, object] = {
        "vocab_size": tokenizer.vocab_size, "d_model": 32, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=64),
        "max_positions": 128,
    }  # fmt: skip
    return LM(
        model=Decoder(DecoderConfig(**shape | changes), seed=3),
        tokenizer=tokenizer,
        chat=ChatFormat(tokenizer),
    )


# --- environments


def test_one_answer_one_verdict() -> None:
    world = opener(Single())()
    assert [message["content"] for message in world.reset(problem())] == ["what is 2 + 2 ?"]
    assert world.step(" 4 ") == Step(reward=1.0)


def test_a_later_attempt_is_worth_less() -> None:
    make = opener(Attempts(turns=3, decay=0.5, told="No."))
    world = make()
    world.reset(problem())
    assert world.step("5") == Step(reward=0.0, observation="No.", done=False)
    assert world.step("4") == Step(reward=0.5)
    other = make()
    other.reset(problem())
    assert [other.step("5").done for _ in range(3)] == [False, False, True]


def test_a_program_is_run_and_its_output_read() -> None:
    try:
        make = opener(PythonTool(turns=3, failed=-0.25, shown=20))
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox here: {error}")
    world = make()
    (told,) = world.reset(problem())
    assert told["content"].endswith("what is 2 + 2 ?") and "```python" in told["content"]
    assert world.step("```python\nprint(2 + 2)\n```\n4") == Step(reward=0.0, observation="4", done=False)
    failed = world.step("```python\n1 / 0\n```")
    assert failed.reward == -0.25 and failed.observation is not None and len(failed.observation) <= 20
    assert world.step("```python\nprint(4)\n```") == Step(reward=0.0)  # the last word must be an answer
    again = make()
    again.reset(problem())
    assert again.step("4") == Step(reward=1.0)


def test_a_calculator_needs_no_sandbox_and_runs_no_code() -> None:
    world = opener(CalculatorTool(turns=4, failed=-0.5))()
    world.reset(problem())
    assert world.step("<<1 + 1>> so <<2 + 2>>") == Step(reward=0.0, observation="4", done=False)
    refused = world.step("<<__import__('os')>>")
    assert refused.reward == -0.5 and not refused.done and "error" in str(refused.observation)
    assert world.step("4") == Step(reward=1.0)


# --- rollouts


class Stubborn:
    """Two turns, whatever is said."""

    def reset(self, problem: Problem) -> list[dict[str, str]]:
        self.said = 0
        return [{"role": "user", "content": problem.prompt}]

    def step(self, text: str) -> Step:
        self.said += 1
        return (
            Step(reward=0.25) if self.said == 2 else Step(reward=0.5, observation="try again .", done=False)
        )


def test_the_ids_of_several_turns_are_those_of_the_conversation(tokenizer: Tokenizer) -> None:
    lm = small(tokenizer)
    speaker = Speaker(engine=Engine(lm), max_tokens=12)
    chat = lm.chat
    assert chat is not None
    found: list[Trajectory] = []
    for seed in range(40):
        found += [
            one for one in speaker.play([problem()], Stubborn, responses=4, seed=seed) if len(one.turns) == 2
        ]
    assert found
    for one in found[:5]:
        first, second = one.turns
        assert first.whole and first.ids[-1] in chat.stop_ids
        assert list(first.read) == chat.prompt(one.conversation[:1])
        told = chat.prompt(
            [*one.conversation[:1], {"role": "assistant", "content": "6"}, one.conversation[2]]
        )
        assert told[-len(second.read) :] == list(second.read)  # the observation and the header behind it
        assert one.verdict == 0.75 and one.written == [*first.ids, *second.ids]
        assert [one.ids[place] for place in one.places] == one.written


def test_draws_are_keyed_and_log_probabilities_are_those_of_the_model(tokenizer: Tokenizer) -> None:
    lm = small(tokenizer)
    speaker = Speaker(engine=Engine(lm), max_tokens=6, system="be short")
    problems = [problem(), problem(prompt="4 5 6")]
    one, again = (speaker.play(problems, opener(Single()), responses=3, seed=11) for _ in range(2))
    other = speaker.play(problems, opener(Single()), responses=3, seed=12)
    assert [t.ids for t in one] == [t.ids for t in again] != [t.ids for t in other]
    assert [t.group for t in one] == [0, 0, 0, 1, 1, 1] and len({tuple(t.ids) for t in one}) > 3
    axis = Axis.of(one, torch.device("cpu"))
    for micro in micro_batches(one, range(6), tokens=64, device=torch.device("cpu")):
        read = Reader(model=lm.model)(micro)
        torch.testing.assert_close(read.logprobs.detach(), axis.sampler[micro.at], rtol=0, atol=1e-5)
    with pytest.raises(OrreryError, match="leaves no room"):
        Speaker(engine=speaker.engine, max_tokens=120).play(problems, opener(Single()), responses=1, seed=0)


# --- packing and credit


def test_packing_keeps_track_of_every_written_token() -> None:
    episodes = [
        trajectory(([1, 2], [3, 4], 0.0), ([5], [6], 1.0), group=0),
        trajectory(([1], [7], 0.0), group=0),
        trajectory(([1, 2, 3], [8, 9], 1.0), group=1),
    ]
    axis = Axis.of(episodes, torch.device("cpu"))
    assert axis.owner.tolist() == [0, 0, 0, 1, 2, 2] and axis.turn.tolist() == [0, 0, 1, 2, 3, 3]
    assert axis.group.tolist() == [0, 0, 1] and axis.turn_place.tolist() == [0, 1, 0, 0]
    micros = micro_batches(episodes, [0, 1, 2], tokens=5, device=torch.device("cpu"))
    assert [m.whole for m in micros] == [(1, 4), (5,)]  # at most five tokens together
    written = torch.tensor([3, 4, 6, 7, 8, 9])
    for micro in micros:
        assert torch.equal(micro.targets, written[micro.at])
    virtual = micro_batches(episodes, [1], tokens=9, device=torch.device("cpu"), virtual=2)[0]
    assert virtual.batch.tokens.tolist() == [0, 0, 1] and virtual.targets.tolist() == [7]
    parts = minibatches(torch.tensor([0, 0, 1, 1, 2, 2]), 2, seed=1)
    assert sorted(r for part in parts for r in part) == list(range(6)) and all(
        len(part) % 2 == 0 for part in parts
    )
    assert minibatches(torch.tensor([0, 0]), 4, seed=1) == [[0, 1]]


def test_one_beginning_for_all_answers_changes_no_number(tokenizer: Tokenizer) -> None:
    lm = small(tokenizer)
    speaker = Speaker(engine=Engine(lm), max_tokens=6)
    episodes = speaker.play([problem(), problem(prompt="4 5 6")], opener(Single()), responses=4, seed=2)
    axis, reader = Axis.of(episodes, torch.device("cpu")), Reader(model=lm.model)
    found = []
    for share in (False, True):
        logprobs = torch.zeros_like(axis.sampler)
        lm.model.zero_grad()
        micros = micro_batches(episodes, range(8), tokens=150, device=torch.device("cpu"), share=share)
        for micro in micros:
            read = reader(micro)
            (read.logprobs * (micro.at + 1)).sum().backward()
            logprobs[micro.at] = read.logprobs.detach()
            if backend() == "c++":
                assert torch.equal(reader.as_served(micro)[0], axis.sampler[micro.at])
        assert lm.model.embed.weight.grad is not None
        found.append(
            (logprobs, lm.model.embed.weight.grad.clone(), sum(len(micro.batch) for micro in micros))
        )
    (alone, slope, tokens), (shared, same, fewer) = found
    torch.testing.assert_close(shared, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(same, slope, rtol=1e-4, atol=1e-4)
    assert fewer < 0.6 * tokens


def configured(**settings: object) -> RlConfig:
    return resolve(RlConfig, {"problems": [{"generator": {"name": "arithmetic"}}], **settings})


def test_credit_for_the_episode_or_for_what_came_after() -> None:
    episodes = [
        trajectory(([1], [2, 3], 0.0), ([4], [5], 1.0)),
        trajectory(([1], [2], 0.5), ([4], [6], 0.0)),
    ]
    axis = Axis.of(episodes, torch.device("cpu"))
    whole = assign(configured(algorithm={"kind": "dr-grpo"}), axis, episodes)
    assert whole.rewards.tolist() == [1.0, 0.5]
    assert whole.advantages.tolist() == [0.25, 0.25, 0.25, -0.25, -0.25]
    turns = assign(configured(algorithm={"kind": "dr-grpo"}, credit="turn"), axis, episodes)
    # after the first turns came 1 and 0.5, after the second 1 and 0
    assert turns.advantages.tolist() == [0.25, 0.25, 0.5, -0.25, -0.5]


def test_credit_by_a_critic_and_a_penalty_by_hand() -> None:
    episodes = [trajectory(([1], [2, 3], 1.0))]
    axis = Axis.of(episodes, torch.device("cpu"))
    cfg = configured(algorithm={"kind": "ppo", "lam": 1.0}, rollout={"responses": 1})
    found = assign(cfg, axis, episodes, values=torch.tensor([0.5, 0.25]))
    assert found.returns is not None and found.returns.tolist() == [1.0, 1.0]
    # advantages 0.5 and 0.75, whitened
    torch.testing.assert_close(found.advantages, torch.tensor([-0.7071, 0.7071]), rtol=0, atol=1e-3)
    cfg = configured(algorithm={"kind": "reinforce", "baseline": "none"}, kl={"beta": 0.5, "place": "reward"})
    old, start = torch.tensor([-1.0, -1.0]), torch.tensor([-1.5, -1.25])  # k1 is 0.5 and 0.25
    priced = assign(cfg, axis, episodes, old=old, reference=start, beta=0.5)
    torch.testing.assert_close(priced.advantages, torch.full((2,), 1 - 0.5 * 0.75))


def test_answers_that_were_cut_off_can_be_left_out() -> None:
    whole, cut = trajectory(([1], [2], 1.0)), trajectory(([1], [2, 3], 0.0))
    episodes = [whole, dataclasses.replace(cut, truncated=True), trajectory(([1], [4], 0.0))]
    axis = Axis.of(episodes, torch.device("cpu"))
    cfg = configured(algorithm={"kind": "dr-grpo"}, rollout={"truncated": "leave out"})
    found = assign(cfg, axis, episodes)
    assert found.advantages.tolist() == [0.5, 0.0, 0.0, -0.5] and found.rewards.isnan().tolist() == [
        False,
        True,
        False,
    ]


# --- the order of problems


def test_sets_come_one_after_the_other_as_they_are_mastered() -> None:
    sets = [[problem(id=f"{part}-{n}", part=part) for n in range(6)] for part in range(2)]
    draws = Draws(Curriculum(order="staged", advance_at=0.5, window=4, rehearsal=0.5), sets, seed=1)
    first = draws.take(6)
    assert {p.part for p in first} == {0} and len(
        {p.id for p in first}
    ) == 6  # an epoch is every problem once
    for p in first[:4]:
        draws.saw(p, [1.0, 0.0])
    assert draws.stage == 1
    later = {p.part for p in draws.take(20)}
    assert later == {0, 1}
    twin = Draws(draws.cfg, sets, seed=1)
    twin.load(draws.state())
    assert [p.id for p in twin.take(9)] == [p.id for p in draws.take(9)]


def test_problems_known_as_too_easy_or_too_hard_are_passed_over_for_a_while() -> None:
    pool = [problem(id=str(n)) for n in range(4)]
    draws = Draws(Curriculum(low=0.1, high=0.9, retry=4), [pool], seed=2)
    for p in draws.take(4):
        draws.saw(p, {"0": [1.0, 1.0], "1": [0.0, 0.0]}.get(p.id, [1.0, 0.0]))
    kept = [p.id for p in draws.take(4)]  # the second and the third epoch
    assert sorted(kept) == ["2", "2", "3", "3"]
    assert {p.id for p in draws.take(4)} == {"0", "1", "2", "3"}  # the fourth asks all again
    for p in pool:
        draws.saw(p, [1.0])
    assert len(draws.take(4)) == 4  # where all are mastered, any will do


# --- routers


def test_routers_take_in_training_what_they_took_when_answering(tokenizer: Tokenizer) -> None:
    lm = small(tokenizer, feed_forward=Moe(n_experts=4, top_k=2, d_ff=32))
    speaker = Speaker(engine=Engine(lm), max_tokens=6)
    episodes = speaker.play([problem()], opener(Single()), responses=3, seed=5)
    (micro,) = micro_batches(episodes, range(3), tokens=999, device=torch.device("cpu"))
    reader = Reader(model=lm.model)
    served, choices = reader.as_served(micro)
    assert {type(layer) for layer in choices} == {MoE} and len(choices) == 2
    torch.testing.assert_close(
        served, Axis.of(episodes, torch.device("cpu")).sampler[micro.at], rtol=0, atol=1e-5
    )
    told = dataclasses.replace(micro, choices=choices)
    before = reader.now(told).logprobs
    torch.testing.assert_close(before, served, rtol=0, atol=1e-5)
    with torch.no_grad():  # routers that would now choose otherwise
        for layer in choices:
            layer.router.weight.neg_()  # type: ignore[union-attr]
    free = reader.as_served(micro)[1]
    assert any(not torch.equal(free[layer], choices[layer]) for layer in choices)
    ctx = told.context()
    reader.hidden(told, ctx)
    assert all(torch.equal(ids, choices[layer]) for layer, ids in ctx.recorded["expert_ids"])
