"""Adherence to a system message is read off answers by rules, with and without words against it."""

from __future__ import annotations

import pytest

from orrery.evaluate.adherence import REQUESTS, RULES, system_adherence
from orrery.kit.chat import Conversation, Reply, ScriptedChat

KEEPS = ("NO.", "Well.\nEND OF ANSWER", "apples", '{"a": 1}', "In a few words.", "I only take orders.")
BREAKS = (
    "No.",
    "END OF ANSWER, then more",
    "a zebra",
    "It is {}.",
    "word " * 13,
    "I only take orders. But well:",
)


@pytest.mark.parametrize(("rule", "keeps", "breaks"), list(zip(RULES, KEEPS, BREAKS, strict=True)))
def test_rules_can_be_kept_and_broken(rule, keeps: str, breaks: str) -> None:
    assert rule.kept(keeps) and not rule.kept(breaks) and not rule.kept("")


def test_a_model_that_obeys_the_system_until_a_user_objects() -> None:
    def script(said: Conversation) -> str:
        for rule, keeps, breaks in zip(RULES, KEEPS, BREAKS, strict=True):
            if said[0]["content"] == rule.system:
                return breaks if rule.against in said[1]["content"] else keeps
        return "zero " * 20  # keeps none of them by chance

    found = system_adherence(ScriptedChat(script))
    n = len(RULES) * len(REQUESTS)
    assert (found.alone.mean, found.conflict.mean, found.without_system.mean) == (1, 0, 0)
    assert found.alone.n == n and found.lost.b == n and found.lost.p < 1e-6 and found.faults == 0


def test_faults_are_left_out_and_counted() -> None:
    class Failing(ScriptedChat):
        def reply(self, conversations, settings=None):
            return [Reply("", "too long"), *super().reply(conversations[1:], settings)]

    found = system_adherence(Failing(lambda said: "x"), rules=RULES[:1], requests=REQUESTS[:2])
    assert found.faults == 1 and found.alone.n == 1
