"""A model as somebody to talk with: conversations in, replies out.

A model opened here (`serve.chat_model`), one behind an endpoint (`serve.remote`) and the script below speak it alike. Judges, people's
comparisons and other measurements of answers know a model only so; what needs token ids knows `kit.lm.LanguageModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from orrery.kit.lm import Grammar

Conversation = Sequence[Mapping[str, Any]]
"""Messages `{"role": "system"|"user"|"assistant", "content": text}`; the last one is the user's."""


@dataclass(frozen=True, kw_only=True)
class ReplySettings:
    """How to reply: at most `max_tokens`, greedily at temperature 0, in texts that `grammar` allows where the model can be held to one."""

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Reply:
    """What a model said; `fault` says why there is no reply (a prompt beyond its context, an endpoint that failed)."""

    text: str
    fault: str = ""


class ChatModel(Protocol):
    """Somebody who replies."""

    @property
    def name(self) -> str:
        """What the model is called in results."""
        ...

    @property
    def obeys_grammars(self) -> bool:
        """Whether a reply can be held to `ReplySettings.grammar`; who cannot must be given none."""
        ...

    def reply(
        self, conversations: Sequence[Conversation], settings: ReplySettings | None = None
    ) -> list[Reply]:
        """One reply to each conversation, in their order.

        Raises:
            OrreryError: nobody can be asked at all. What fails for one conversation is told in its `Reply.fault`.
        """
        ...


@dataclass
class ScriptedChat:
    """Replies by a function of the conversation: for tests, and for exhibits with a judge whose habits are known."""

    script: Callable[[Conversation], str]
    name: str = "scripted"
    obeys_grammars: bool = False
    asked: list[Conversation] = field(default_factory=list)

    def reply(
        self, conversations: Sequence[Conversation], settings: ReplySettings | None = None
    ) -> list[Reply]:
        """What the script says to each."""
        self.asked.extend(conversations)
        return [Reply(self.script(conversation)) for conversation in conversations]
