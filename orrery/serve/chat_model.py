"""A model opened here as somebody who replies (`kit.chat.ChatModel`): many conversations at once through the engine.

judge = LocalChat(orrery.load("models/judge"), name="judge")
judge.reply([[{"role": "user", "content": "Hello"}]])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orrery.kit.chat import Conversation, Reply, ReplySettings
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest, Grammar, Sampling
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM

USER, ASSISTANT = "Question:", "Answer:"


class LocalChat:
    """Replies by the model's own chat format; reasoning that the format marks is not part of a reply.

    A base model has no chat format: it reads the conversation as plain text with lines that begin `Question:` and `Answer:`, and its
    reply ends where it begins another question.
    """

    obeys_grammars = True

    def __init__(self, model: LM | Engine, *, name: str) -> None:
        """`model`: an opened one, or the engine it is served by already."""
        self._engine = model if isinstance(model, Engine) else Engine(model)
        self.lm, self.name = self._engine.lm, name

    def reply(
        self, conversations: Sequence[Conversation], settings: ReplySettings | None = None
    ) -> list[Reply]:
        """One reply to each; a conversation beyond the context has a fault instead.

        Raises:
            OrreryError: the grammar is none, or the chat format refuses a conversation.
        """
        settings = settings or ReplySettings()
        prompts = [self._ids(conversation) for conversation in conversations]
        fit = [i for i, ids in enumerate(prompts) if len(ids) <= self.lm.context]
        made = self._engine.generate([self._request(prompts[i], settings) for i in fit])
        replies = [
            Reply("", f"the prompt has {len(ids)} tokens, the model's context is {self.lm.context}")
            for ids in prompts
        ]
        for i, completion in zip(fit, made, strict=True):
            replies[i] = Reply(self._text(completion))
        return replies

    def _request(self, ids: list[int], settings: ReplySettings) -> GenerateRequest:
        chat, grammar = self.lm.chat, settings.grammar
        if chat is not None and grammar is not None:
            grammar = _behind_reasoning(chat, grammar, ids)
        return GenerateRequest(
            ids=ids,
            max_tokens=settings.max_tokens,
            sampling=Sampling(temperature=settings.temperature, seed=settings.seed),
            stop=(f"\n{USER}",) if chat is None else (),
            grammar=grammar,
        )

    def _ids(self, conversation: Conversation) -> list[int]:
        if self.lm.chat is None:
            return self.lm.prompt_ids(plain_text(conversation))
        try:
            return self.lm.chat.prompt(conversation)
        except OrreryError:
            if conversation[0]["role"] != "system":
                raise
            return self.lm.chat.prompt(without_system(conversation))  # a format that has no such role

    def _text(self, completion: Completion) -> str:
        if self.lm.chat is None:
            return completion.text.strip()
        return str(self.lm.chat.parse(completion.ids).get("content") or "").strip()


def plain_text(conversation: Conversation) -> str:
    """A conversation as a base model reads it, up to where its answer begins."""
    words = {"user": f"{USER} ", "assistant": f"{ASSISTANT} ", "system": ""}
    turns = [words[message["role"]] + str(message["content"]) for message in conversation]
    return "\n\n".join([*turns, ASSISTANT])


def without_system(conversation: Conversation) -> list[dict[str, Any]]:
    """The same conversation with the system message at the beginning of the first user's."""
    system, first, *rest = conversation
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *map(dict, rest)]


def _behind_reasoning(chat: Any, grammar: Grammar, ids: list[int]) -> Grammar:
    from orrery.serve.grammar.syntax import in_reasoning
    from orrery.serve.grammar.tool_calls import reasoned_grammar

    return reasoned_grammar(chat, grammar, in_reasoning=in_reasoning(chat, ids))
