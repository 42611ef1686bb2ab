"""Episodes from files: the same bits back, the same step from them, and weights for what another policy drew; experts included."""

from __future__ import annotations

import dataclasses
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows, write_rows
from orrery.kit.log import read_jsonl
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.moe import Moe
from orrery.serve.lm import LM
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.state import model_tensors
from orrery.tune.rl.answering import Here
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.packing import micro_batches
from orrery.tune.rl.problems import read_problems
from orrery.tune.rl.reading import Reader
from orrery.tune.rl.recorded import Replay, plain, read_recorded, recorded, turn_of
from orrery.tune.rl.round import Round
from orrery.tune.rl.routing import dictated, routers
from orrery.tune.rl.trainer import RlResult, reinforce

from .start import LOOP, Start, config, taught

ROOM = {"prompts": 8, "responses": 8, "max_tokens": 8}
ALONE = {"prompts": 0, "responses": 8, "max_tokens": 8}


@pytest.fixture(scope="module")
def start() -> Start:
    return taught()


def steps(n: int) -> TrainConfig:
    every = CheckpointConfig(every_steps=2, every_seconds=None, keep_best=0)
    return dataclasses.replace(LOOP, steps=n, checkpoint=every, validate_every=1)


def practise(lm: LM, cfg: RlConfig, out: Path, n: int) -> RlResult:
    problems = read_problems(cfg.problems, root=out, heldout=cfg.heldout)
    found = read_recorded(cfg.replay, root=out.parent)
    return reinforce(cfg, steps(n), lm=lm, problems=problems, recorded=found, out=out)


def test_what_was_drawn_is_learned_from_again(start: Start, tmp_path: Path) -> None:
    live, again, later = start.lm(), start.lm(), start.lm()
    practise(live, config(rollout=ROOM, keep_rollouts=True, correction={}), tmp_path / "live", 1)
    rows = read_rows(tmp_path / "live" / "rollouts" / "000000.jsonl")
    assert len(rows) == 64
    for row in rows[:9]:
        assert json.loads(json.dumps(plain(recorded(row)))) == row

    # The same step from the file as from what was drawn: the weights that drew are those that learn, so all weigh 1.
    replay = {"paths": ["live/rollouts/*.jsonl"], "prompts": 8}
    cfg = config(rollout=ALONE, replay=replay, correction={"high": 5.0})
    practise(again, cfg, tmp_path / "again", 1)
    for left, right in zip(live.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)
    (drawn,), (read,) = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("live", "again"))
    for name in ("reward", "accuracy", "entropy", "length", "dead_groups"):
        assert read[name] == pytest.approx(drawn[name], abs=1e-6)
    assert read["replayed"] == 64 and read["groups_drawn"] == 0 and "engine_gap" not in read
    assert read["correction_share"] == pytest.approx(1, abs=1e-5)
    assert read["sampler_ratio_max"] == pytest.approx(1, abs=1e-4)

    # Learned from again and again, without a draw: it gets better, and the weights say how old the answers are by then.
    result = practise(later, cfg, tmp_path / "later", 10)
    lines = read_jsonl(tmp_path / "later" / "metrics.jsonl")
    assert result.start is not None and result.end is not None and result.end >= result.start
    assert lines[-1]["sampler_ratio_max"] > lines[1]["sampler_ratio_max"] > 1.001
    assert lines[-1]["correction_share"] < 0.999 < lines[0]["correction_share"]
    assert result.drawn == 0


def test_recorded_answers_stand_beside_drawn_ones(start: Start, tmp_path: Path) -> None:
    practise(start.lm(), config(rollout=ROOM, keep_rollouts=True), tmp_path / "live", 1)
    replay = {"paths": ["live/rollouts/*.jsonl"], "prompts": 3}
    practise(start.lm(), config(rollout=ROOM, replay=replay, correction={}), tmp_path / "both", 2)
    lines = read_jsonl(tmp_path / "both" / "metrics.jsonl")
    assert [line["replayed"] for line in lines] == [24, 24] and lines[0]["groups_drawn"] == 8
    groups = read_recorded(Replay(paths=("live/rollouts/*.jsonl",)), root=tmp_path)
    assert [len(group) for group in groups] == [8] * 8
    epoch = [id(group) for step in range(4) for group in turn_of(groups, 2, step=step, seed=1)]
    assert len(set(epoch)) == 8  # each once before any comes again


def other(**changes: Any) -> dict[str, Any]:
    """An episode as another system may write it."""
    turn = {"read": [5, 6], "ids": [7, 8], "logprobs": [-0.5, -1.0], "text": "4"}
    return {"problem": {"prompt": "2 + 2 ?", "target": "4", "score": "verbatim"}, "turns": [turn | changes]}


def test_what_another_system_wrote(start: Start, tmp_path: Path) -> None:
    right, wrong = recorded(other()), recorded(other(text="5"))
    assert (right.verdict, wrong.verdict) == (1.0, 0.0) and recorded(other(reward=0.25)).verdict == 0.25
    assert right.turns[0].whole and right.conversation[1] == {"role": "assistant", "content": "4"}
    write_rows(tmp_path / "theirs.jsonl", [other(), other(text="5"), other() | {"group": 1}])
    (pair, one) = read_recorded(Replay(paths=("*.jsonl",)), root=tmp_path)
    assert (len(pair), len(one)) == (2, 1)

    for odd, said in ((other(logprobs=[-1.0]), "each id written"), ({"text": "4"}, "is no episode")):
        write_rows(tmp_path / "odd.jsonl", [odd])
        with pytest.raises(OrreryError, match=said):
            read_recorded(Replay(paths=("odd.jsonl",)), root=tmp_path)
    with pytest.raises(OrreryError, match="no file of episodes"):
        read_recorded(Replay(paths=("none.jsonl",)), root=tmp_path)
    write_rows(tmp_path / "far.jsonl", [other(ids=[7, 9_999])])
    replay = {"paths": ["far.jsonl"]}
    with pytest.raises(OrreryError, match="of another tokenizer"):
        practise(start.lm(), config(rollout=ALONE, replay=replay, correction={}), tmp_path / "x", 1)
    late = config(rollout=ALONE, replay=replay, correction={})
    with pytest.raises(OrreryError, match="go together"):
        reinforce(
            late,
            steps(1),
            lm=start.lm(),
            problems=read_problems(late.problems, root=tmp_path, heldout=0),
            out=tmp_path / "y",
        )
    with pytest.raises(OrreryError, match="add correction"):
        config(replay=replay)
    with pytest.raises(OrreryError, match="nothing to learn from"):
        config(rollout=ALONE)


# --- routers


def mixture(start: Start) -> LM:
    shape: dict[str, Any] = {"d_model": 32, "n_layers": 3, "n_heads": 2, "max_positions": 64}
    experts = Moe(n_experts=4, top_k=2, d_ff=32)
    model = Decoder(
        DecoderConfig(vocab_size=start.tokenizer.vocab_size, feed_forward=experts, **shape), seed=2
    )
    return LM(model=model, tokenizer=start.tokenizer, chat=start.chat)


def test_experts_are_noted_where_answers_are_drawn(start: Start, tmp_path: Path) -> None:
    lm, cfg = mixture(start), config(router_replay=True, rollout=ROOM)
    problems = read_problems(cfg.problems, root=tmp_path, heldout=0).sets[0][:3]
    episodes = Here.of(cfg, lm, system="").ask(problems, responses=4, seed=3)()
    for one in episodes:
        assert [tuple(layer.shape) for layer in one.experts] == [(len(one.ids) - 1, 2)] * 3
    assert not Here.of(cfg, lm, system="").ask(problems, responses=1, seed=0, temperature=0.0)()[0].experts
    copy = recorded(json.loads(json.dumps(plain(episodes[0]))))
    assert all(torch.equal(a, b) for a, b in zip(copy.experts, episodes[0].experts, strict=True))

    drew = deepcopy(lm.model)
    with torch.no_grad():  # the policy moves on, and its routers with it
        for layer in routers(lm.model):
            layer.router.weight.neg_()  # type: ignore[union-attr]
    for micro in micro_batches(episodes, range(12), tokens=60, device=torch.device("cpu")):
        told = dictated(micro, episodes, lm.model)
        were = Reader(model=drew).as_served(micro)[1]
        ctx = told.context()
        Reader(model=lm.model).hidden(told, ctx)
        taken = dict(ctx.recorded["expert_ids"])
        for mine, theirs in zip(routers(lm.model), routers(drew), strict=True):
            assert torch.equal(taken[mine], were[theirs])
        free = Reader(model=lm.model).as_served(micro)[1]
        assert any(not torch.equal(free[layer], taken[layer]) for layer in routers(lm.model))


def test_a_mixture_learns_with_the_experts_of_its_rollouts(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On policy the engine and the trainer agree; one step off, the noted experts survive a kill."""
    small = {"prompts": 4, "responses": 4, "max_tokens": 6}
    cfg = config(router_replay=True, rollout=small)
    practise(mixture(start), cfg, tmp_path / "now", 2)
    for line in read_jsonl(tmp_path / "now" / "metrics.jsonl"):
        assert line["first_ratio"] == 0.0 and line["engine_gap"] < 1e-4
    late = config(router_replay=True, rollout=small, off_policy_steps=1, correction={}, epochs=2)
    whole, again = mixture(start), mixture(start)
    practise(whole, late, tmp_path / "whole", 4)
    go = Round.go

    def die(self: Round, step: int, *args: Any, **kwargs: Any) -> Any:
        done = go(self, step, *args, **kwargs)
        if step == 2:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Round, "go", die)
    with pytest.raises(KeyboardInterrupt):
        practise(mixture(start), late, tmp_path / "killed", 4)
    monkeypatch.undo()
    assert practise(again, late, tmp_path / "killed", 4).resumed_from == 2
    left, right = model_tensors(whole.model), model_tensors(again.model)
    assert all(torch.equal(left[name], right[name]) for name in left)
    write_rows(tmp_path / "bare.jsonl", [other()])
    bare = config(router_replay=True, rollout=ALONE, replay={"paths": ["bare.jsonl"]}, correction={})
    with pytest.raises(OrreryError, match="says nothing of its experts"):
        practise(mixture(start), bare, tmp_path / "bare", 1)
