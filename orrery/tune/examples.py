"""From a dialogue to an example: ids, and for each id its weight as something to predict.

    loss on the assistant's turns only: every id the model is to write, its calls of tools and the token that ends the turn

The weights come from the renderer, which gives a role to every id as it makes it (`ChatFormat.render`); nothing is searched for in
text. What the model would be shown is what it is trained on: where a format rewrites earlier turns as a conversation grows (and
so is not append-only), each answer becomes an example of its own, behind the prompt that a server would have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orrery.kit.errors import OrreryError
from orrery.text.chat import ChatFormat
from orrery.text.rendered import Role
from orrery.text.tokenizer import Tokenizer
from orrery.tune.dialogue import Dialogue, Passage, Sample

Learn = Literal["assistant", "last", "all"]
"""Which ids carry loss: those of all the assistant's turns, of its last turn, or all of them."""


@dataclass(frozen=True, slots=True)
class Example:
    """`weights[i]` is the weight of `ids[i]` as a target; the first id is never one. `where` is the row's place."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    where: str = ""

    @property
    def supervised(self) -> int:
        """How many ids are learned."""
        return sum(1 for weight in self.weights[1:] if weight)


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Makes examples for one model.

    Attributes:
        chat: None: the model learns to continue. A question and its answer are then written one after the other, with BOS in front
            and EOS at the end where there are such tokens.
        system: a system message for dialogues that have none.
        learn: which ids carry loss.
    """

    tokenizer: Tokenizer
    chat: ChatFormat | None
    system: str = ""
    learn: Learn = "assistant"

    def examples(self, sample: Sample) -> list[Example]:
        """What a dialogue or passage teaches, without ids behind the last that is learned: they would change nothing.

        Raises:
            OrreryError: the chat format refuses the dialogue or leaves its answers out (names the row and says why).
        """
        if isinstance(sample, Passage):
            return [self._passage(sample)]
        try:
            made = self._plain(sample) if self.chat is None else self._rendered(sample, self.chat)
        except OrreryError as error:
            raise OrreryError(f"{sample.where}: {error}") from None
        empty = next((example for example in made if not example.supervised), None)
        if empty is not None:
            raise OrreryError(
                f"{sample.where}: the chat format leaves the assistant's answer out, so there is nothing to learn; mend the row or "
                "choose another chat_template"
            )
        return made

    def prompt(self, sample: Sample) -> list[int]:
        """The ids before the first answer that is learned, ready for the model to go on (of a passage: its first words)."""
        if isinstance(sample, Passage):
            words = " ".join(sample.text.split()[:8])
            return self._wrapped(self.tokenizer.encode(words))
        asked = self._told(sample)[: sample.learned[0] + self._shift(sample)]
        if self.chat is None:
            return self._wrapped(self.tokenizer.encode(str(asked[-1]["content"])))
        return self.chat.prompt(asked, tools=list(sample.tools) or None)

    def _rendered(self, dialogue: Dialogue, chat: ChatFormat) -> list[Example]:
        messages, tools = self._told(dialogue), list(dialogue.tools) or None
        shift = self._shift(dialogue)
        learned = [turn + shift for turn in dialogue.learned]
        learned = learned[-1:] if self.learn == "last" else learned
        if len(learned) == 1 or chat.append_only or chat.keeps_prefixes(messages, tools=tools):
            return [self._example(chat, messages, tools, learned, dialogue.where)]
        return [self._example(chat, messages[: turn + 1], tools, [turn], dialogue.where) for turn in learned]

    def _example(
        self,
        chat: ChatFormat,
        messages: Sequence[dict[str, Any]],
        tools: Any,
        learned: Sequence[int],
        where: str,
    ) -> Example:
        rendered = chat.render(messages, tools=tools)
        weights = [
            float(role == Role.ASSISTANT and turn in learned)
            for role, turn in zip(rendered.roles, rendered.turns, strict=True)
        ]
        if self.learn == "all":
            weights = [1.0] * len(weights)
        return _trimmed(rendered.ids, weights, where)

    def _plain(self, dialogue: Dialogue) -> list[Example]:
        messages = self._told(dialogue)
        spoken = [message["role"] for message in messages if message["role"] != "system"]
        if spoken != ["user", "assistant"] or messages[-1].get("tool_calls"):
            raise OrreryError(
                "without a chat format only a question and its answer can be written one after the other; choose a chat_template"
            )
        asked = self._wrapped(
            self.tokenizer.encode("\n\n".join(str(message["content"]) for message in messages[:-1]))
        )
        said = self.tokenizer.encode(str(messages[-1]["content"]))
        said += [] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id]
        weights = [float(self.learn == "all")] * len(asked) + [1.0] * len(said)
        return [_trimmed([*asked, *said], weights, dialogue.where)]

    def _passage(self, passage: Passage) -> Example:
        ids = self.tokenizer.encode(passage.text)
        ids = self._wrapped(ids) + ([] if self.tokenizer.eos_id is None else [self.tokenizer.eos_id])
        if len(ids) < 2:
            raise OrreryError(
                f"{passage.where}: a text needs at least two tokens: one to read and one to predict"
            )
        return Example(tuple(ids), (1.0,) * len(ids), passage.where)

    def _wrapped(self, ids: list[int]) -> list[int]:
        return self.tokenizer.wrap(ids, bos=self.tokenizer.bos_id is not None)

    def _told(self, dialogue: Dialogue) -> list[dict[str, Any]]:
        return [{"role": "system", "content": self.system}] * self._shift(dialogue) + list(dialogue.messages)

    def _shift(self, dialogue: Dialogue) -> int:
        """1 where our system message is put in front."""
        return int(bool(self.system) and dialogue.messages[0]["role"] != "system")


def _trimmed(ids: Sequence[int], weights: Sequence[float], where: str) -> Example:
    last = max((i for i, weight in enumerate(weights) if weight), default=len(ids) - 1)
    return Example(tuple(ids[: last + 1]), tuple(weights[: last + 1]), where)
