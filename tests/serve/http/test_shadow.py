"""A second model behind the first: what it would have said is counted, and users are untouched by it."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest, ScoreRequest, Steering
from orrery.model import Decoder
from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.engine import Engine
from orrery.serve.http.shadow import Difference, Shadow
from orrery.serve.lm import LM
from tests.serve.http.conftest import serving as plain_serving
from tests.serve.http.conftest import until
from tests.serve.http.raw import ask, head, post
from tests.serve.http.test_metrics import scrape

BODY = {"prompt": "the cat sat", "max_tokens": 6, "ignore_eos": True, "temperature": 0.7, "seed": 3}


@pytest.fixture(scope="module")
def other(chat_lm: LM) -> LM:
    """Another model with the same tokenizer."""
    model = Decoder(chat_lm.model.cfg, seed=9).eval()
    return LM(model=model, tokenizer=chat_lm.tokenizer, chat=chat_lm.chat)


def twin(lm: LM) -> LM:
    """The same model opened again."""
    return LM(model=copy.deepcopy(lm.model), tokenizer=lm.tokenizer, chat=lm.chat)


def serving(lm: LM, shadow: Shadow | None, **settings: Any) -> Any:
    return plain_serving(AsyncEngine(Engine(lm)), shadow=shadow, **settings)


def report(server: Any) -> dict[str, Any]:
    return json.loads(ask(server.port, head("GET", "/shadow")).body)


def asked(server: Any, **changes: Any) -> dict[str, Any]:
    answer = ask(server.port, post("/v1/completions", {**BODY, **changes}, "Connection: close"))
    assert answer.status == 200
    return json.loads(answer.body)


def test_the_same_model_says_the_same(chat_lm: LM) -> None:
    shadow = Shadow(twin(chat_lm), name="candidate", served=chat_lm)
    with serving(chat_lm, shadow) as server:
        for seed in range(3):
            asked(server, seed=seed)
        until(lambda: report(server)["compared"] == 3)
        found, metrics = report(server), scrape(server.port)
    assert (found["model"], found["equal"], found["different"], found["dropped"], found["failed"]) == (
        "candidate",
        3,
        0,
        0,
        0,
    )
    assert found["equal_share"] == 1 and found["mean_first_difference"] is None
    assert found["served_logprob_per_token"] == pytest.approx(found["shadow_logprob_per_token"], abs=1e-5)
    assert metrics["orrery_shadow_mirrored_total"] == metrics["orrery_shadow_compared_total[equal]"] == 3
    assert metrics["orrery_shadow_queue"] == 0


def test_another_model_differs_as_worked_out_apart(chat_lm: LM, other: LM) -> None:
    request = GenerateRequest(
        ids=chat_lm.prompt_ids("the cat"), max_tokens=8, ignore_eos=True, sampling=_greedy()
    )
    (served,), (theirs,) = chat_lm.generate([request]), other.generate([request])
    shadow = Shadow(twin(other), name="candidate", served=chat_lm)
    shadow.start(lambda: False)
    shadow.offer(request, served)
    until(lambda: shadow.report()["compared"] == 1)
    shadow.stop()
    (found,) = shadow.recent
    place = next(i for i in range(8) if served.ids[i] != theirs.ids[i])
    (score,) = other.score([ScoreRequest(ids=[*request.ids, *served.ids], start=len(request.ids))])
    assert (found.equal, found.first, found.served, found.shadow) == (False, place, 8, 8)
    assert found.shadow_logprob == pytest.approx(-score.nats, abs=1e-4)
    assert found.served_logprob == pytest.approx(sum(served.logprobs))
    assert shadow.report()["mean_first_difference"] == place


def _greedy() -> Any:
    from orrery.kit.lm import Sampling

    return Sampling(temperature=0.0)


def test_differences_by_hand() -> None:
    def said(*ids: int) -> Completion:
        return Completion(text="", ids=ids, logprobs=(-0.5,) * len(ids), finish_reason="stop")

    request = GenerateRequest(ids=[1, 2])
    read = Completion(
        text="", ids=(0,), logprobs=(0.0,), finish_reason="length", prompt_logprobs=({2: -9.0}, {5: -1.0, 7: -0.1}, {6: -2.0})
    )  # fmt: skip
    found = Difference.of(request, said(5, 6), said(5, 6, 7), read)
    assert found == Difference(
        equal=False, first=2, prompt=2, served=2, shadow=3, served_logprob=-1.0, shadow_logprob=-3.0
    )
    assert Difference.of(request, said(5, 6), said(4, 6), None).first == 0
    assert Difference.of(request, said(5), said(5), None).equal


def test_users_get_the_same_bytes_and_texts_are_kept_nowhere(chat_lm: LM, other: LM) -> None:
    def answers(shadow: Shadow | None) -> list[Any]:
        with serving(chat_lm, shadow) as server:
            made = [asked(server, seed=seed, prompt="a private matter")["choices"] for seed in range(4)]
            if shadow is not None:
                until(lambda: report(server)["compared"] == 4)
                told = (
                    ask(server.port, head("GET", "/shadow")).body
                    + ask(server.port, head("GET", "/metrics")).body
                )
                assert b"private" not in told and b"matter" not in told
                assert all(made[0][0]["text"] not in line for line in told.decode().splitlines())
        return made

    assert answers(None) == answers(Shadow(twin(other), name="s", served=chat_lm))


def test_what_does_not_fit_is_dropped_and_counted(chat_lm: LM, other: LM) -> None:
    """The shadow gets no moment for itself: the queue takes two, the rest is dropped, and users notice nothing."""
    shadow = Shadow(twin(other), name="s", served=chat_lm, limit=2)
    shadow.start(lambda: True)
    request = GenerateRequest(ids=[5, 6], max_tokens=2)
    (served,) = chat_lm.generate([request])
    shadow.offer(request, served)
    until(lambda: shadow.waiting == 0)  # taken up, and now waiting for a moment
    for _ in range(5):
        shadow.offer(request, served)
    assert (shadow.mirrored, shadow.dropped, shadow.waiting) == (3, 3, 2)
    shadow.stop()
    assert shadow.report()["compared"] == 0


def test_nothing_runs_while_a_user_waits(chat_lm: LM, other: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, steps = threading.Event(), []
    shadow = Shadow(twin(other), name="s", served=chat_lm)
    step = shadow._engine.step
    monkeypatch.setattr(shadow._engine, "step", lambda: steps.append(busy.is_set()) or step())
    request = GenerateRequest(ids=[5, 6], max_tokens=2, ignore_eos=True)
    (served,) = chat_lm.generate([request])
    busy.set()
    shadow.start(busy.is_set)
    shadow.offer(request, served)
    time.sleep(0.1)
    assert not steps
    busy.clear()
    until(lambda: shadow.report()["compared"] == 1)
    shadow.stop()
    assert steps and not any(steps)


@pytest.mark.parametrize("broken", ["step", "add"])
def test_faults_of_the_shadow_are_its_own(
    chat_lm: LM, other: LM, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    shadow = Shadow(twin(other), name="s", served=chat_lm)

    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(shadow._engine, broken, fail)
    with serving(chat_lm, shadow) as server:
        asked(server)
        until(lambda: report(server)["failed"] == 1)
        monkeypatch.undo()
        asked(server)
        until(lambda: report(server)["compared"] == 1)


def test_what_it_cannot_be_asked_is_skipped(chat_lm: LM, other: LM) -> None:
    shadow = Shadow(twin(other), name="s", served=chat_lm)
    done = Completion(text="", ids=(5,), logprobs=(-1.0,), finish_reason="length")
    steered = Steering(layer=0, vector=(0.0,) * 32)
    for request in (
        GenerateRequest(ids=[5], steering=(steered,)), GenerateRequest(ids=[5], adapter="polite"), GenerateRequest(ids=[5], best_of=2)
    ):  # fmt: skip
        shadow.offer(request, done)
    assert shadow.skipped == {"steering": 1, "adapter": 1, "best_of": 1} and shadow.waiting == 0


def test_streams_and_several_choices_are_mirrored_too(chat_lm: LM) -> None:
    shadow = Shadow(twin(chat_lm), name="s", served=chat_lm)
    with serving(chat_lm, shadow) as server:
        ask(server.port, post("/v1/completions", {**BODY, "stream": True}, "Connection: close"))
        asked(server, n=2)
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        ask(server.port, post("/v1/chat/completions", body, "Connection: close"))
        until(lambda: report(server)["compared"] == 3)
        assert report(server)["equal"] == 3


def test_the_route_is_there_with_a_shadow_only_and_behind_the_key(chat_lm: LM) -> None:
    with serving(chat_lm, None) as server:
        assert ask(server.port, head("GET", "/shadow")).status == 404
    shadow = Shadow(twin(chat_lm), name="s", served=chat_lm)
    with serving(chat_lm, shadow, api_keys=("k",)) as server:
        assert ask(server.port, head("GET", "/shadow")).status == 401


def test_another_vocabulary_is_refused(chat_lm: LM, make_model: Callable[..., Any]) -> None:
    more = chat_lm.tokenizer.add_tokens(["<more>"])
    with pytest.raises(OrreryError, match="another vocabulary"):
        Shadow(LM(model=make_model(more.vocab_size), tokenizer=more), name="s", served=chat_lm)


def test_it_is_asked_for_on_the_command_line(
    chat_lm: LM, tmp_path: Any, save_lm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orrery.cli import serve as module

    folder = save_lm(chat_lm, tmp_path / "model")
    made: list[Any] = []
    monkeypatch.setattr(module, "_run", lambda *arguments, **settings: made.extend(arguments))
    module.serve(folder, port=0, shadow=str(folder), kv_memory=8.0)
    service = made[0].config.app.state.service
    assert service.shadow.name == "model" and service.shadow.report()["mirrored"] == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(OrreryError, match="one process"):
        module._shadow(SimpleNamespace(), "m", chat_lm)
