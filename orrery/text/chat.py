"""A model's chat format: conversations to ids with a role for every id, and a model's answer back to a message.

    chat = ChatFormat(tokenizer)                           # our own format (default_chat.py)
    chat = ChatFormat.load("models/qwen3", tokenizer)      # the format of a model folder, whoever made it
    chat = ChatFormat.from_template(source, tokenizer)     # any Jinja chat template

    chat.text(messages, tools=tools)                       # the string transformers would render
    chat.render(messages, generate=True).ids               # what the model reads; special tokens in messages stay text
    chat.render(messages).assistant_mask                   # what it is trained on
    chat.parse(generated_ids)                              # {"role": "assistant", "content": ..., "tool_calls": ...}

Trainer, engine, server and evaluator take these ids; nothing else turns a conversation into ids. A foreign template is a program
from a stranger: it runs in an interpreter of our own with bounds on what it costs (`jinja/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write
from orrery.text.chat_files import FOLDER, TEMPLATE_FILE, generation_stops, read_templates
from orrery.text.default_chat import CONTROL, TEMPLATE, DefaultFormat
from orrery.text.jinja.limits import Limits
from orrery.text.jinja.program import Now
from orrery.text.rendered import Message, Rendered, Role
from orrery.text.template import TemplateFormat
from orrery.text.tokenizer import Tokenizer

__all__ = ["CONTROL", "FILE", "TEMPLATE", "ChatFormat", "Message", "Rendered", "Role"]
FILE = TEMPLATE_FILE


class ChatFormat:
    """Renders conversations for one tokenizer. Messages are dicts with `role` and `content`, as in the OpenAI API."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Our own format.

        Raises:
            OrreryError: the tokenizer lacks one of the format's special tokens.
        """
        self._own: DefaultFormat | None = DefaultFormat(tokenizer)
        self._template = TemplateFormat(TEMPLATE, tokenizer)

    @classmethod
    def from_template(
        cls,
        template: str | Mapping[str, str],
        tokenizer: Tokenizer | None = None,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        stop_ids: Sequence[int] = (),
        limits: Limits | None = None,
        **tokens: str,
    ) -> ChatFormat:
        """The format of a Jinja chat template, or of several by name ("default", "tool_use").

        Args:
            tokenizer: without it there is text but there are no ids.
            bos_token, eos_token, tokens: names the template uses (`pad_token` ...); the tokenizer's own where not given.
            stop_ids: ids that end an answer besides those the template shows, as generation_config.json lists them.

        Raises:
            OrreryError: not a template, one beyond the limits, or one that reaches outside itself.
        """
        own = isinstance(template, str) and template == TEMPLATE and tokenizer is not None
        if own and not any(name not in tokenizer.special for name in CONTROL):  # type: ignore[union-attr]
            return cls(tokenizer)  # type: ignore[arg-type]
        given = {"bos_token": bos_token, "eos_token": eos_token} | tokens
        named = {name: value for name, value in given.items() if value is not None}
        made = cls.__new__(cls)
        made._own = None
        made._template = TemplateFormat(template, tokenizer, tokens=named, stop_ids=stop_ids, limits=limits)
        return made

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the ids are of.

        Raises:
            OrreryError: the format was made without one.
        """
        if self._template.tokenizer is None:
            raise OrreryError(
                "this chat format has no tokenizer; give it one with from_template(template, tokenizer)"
            )
        return self._template.tokenizer

    @property
    def templates(self) -> dict[str, str]:
        """All Jinja sources by name; "default" is the one that `template` gives."""
        return dict(self._template.named)

    @property
    def template(self) -> str:
        """The Jinja source."""
        return self._template.named["default"]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an assistant's turn."""
        return (self._own or self._template).stop_ids

    @property
    def append_only(self) -> bool:
        """Whether a longer conversation's rendering begins with the shorter one's, so that what was computed for it stays valid.

        Ours does by construction. A foreign template (many drop earlier reasoning) is asked to render a set of conversations and
        their beginnings; `keeps_prefixes` asks about one conversation.
        """
        return (self._own or self._template).append_only

    def text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        *,
        now: Now = None,
        **variables: Any,
    ) -> str:
        """The string that transformers' apply_chat_template(tokenize=False) gives.

        Args:
            tools: JSON schemas of functions, or Python functions with type hints and Google-style docstrings.
            now: what the template's `strftime_now` tells: a time, or a text for every format; None: the clock.
            variables: whatever else the template reads (enable_thinking, documents, date_string ...).

        Raises:
            OrreryError: the template refuses the conversation (with its own words), fails on it, or goes beyond its limits.
        """
        return str(self._template.marked(messages, tools, add_generation_prompt, now=now, **variables))

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        generate: bool = False,
        **variables: Any,
    ) -> Rendered:
        """Ids and roles of a conversation.

        Args:
            messages: `{"role": "system"|"user"|"assistant"|"tool", "content": text}`; an assistant's may have
                `tool_calls` and `reasoning`.
            tools: as in `text`.
            generate: end with the assistant's header, ready for the model to go on.
            variables: as in `text`, for foreign templates.

        Raises:
            OrreryError: no messages, malformed ones, or as in `text`; or a template whose rendering does not tell where the
                assistant's words begin.
        """
        if self._own is None:
            return self._template.render(messages, tools=tools, generate=generate, **variables)
        if variables:
            raise OrreryError(f"our own chat format has no variable '{min(variables)}'")
        return self._own.render(messages, tools=tools, generate=generate)

    def prompt(
        self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None, **variables: Any
    ) -> list[int]:
        """The ids the model reads before it answers: those of `render(generate=True)`, without asking for roles.

        Raises:
            OrreryError: as `render`; but a template whose turns cannot be told apart serves here.
        """
        if self._own is None:
            _, pieces = self._template.encode(messages, tools=tools, generate=True, **variables)
            return [piece.id for piece in pieces]
        return self.render(messages, tools=tools, generate=True, **variables).ids

    def parse(self, ids: Sequence[int]) -> dict[str, Any]:
        """The assistant's message that generated ids spell, up to a stop id; the inverse of rendering one.

        Reasoning and tool calls are taken out of the text where their syntax is known; a malformed call is kept in the
        content, so nothing the model wrote is lost.
        """
        return (self._own or self._template).parse(ids)

    def keeps_prefixes(self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None) -> bool:
        """Whether this conversation's ids begin with those of each of its beginnings, prompts for the assistant included."""
        return (self._own or self._template).keeps_prefixes(messages, tools=tools)

    def save(self, folder: str | Path) -> None:
        """Write chat_template.jinja beside the tokenizer's files, byte for byte; more templates go to their own folder."""
        for name, source in self._template.named.items():
            path = Path(folder) / (FILE if name == "default" else f"{FOLDER}/{name}.jinja")
            path.parent.mkdir(exist_ok=True)
            atomic_write(path, source.encode())

    @classmethod
    def load(cls, folder: str | Path, tokenizer: Tokenizer) -> ChatFormat:
        """The chat format of a model folder: chat_template.jinja, or the one inside tokenizer_config.json.

        Raises:
            OrreryError: the folder has no chat template, or one that cannot be used.
        """
        templates = read_templates(Path(folder))
        if not templates:
            raise OrreryError(f"'{folder}' has no {FILE}: this model has no chat format")
        source: str | dict[str, str] = templates["default"] if templates.keys() == {"default"} else templates
        return cls.from_template(
            source, tokenizer, stop_ids=generation_stops(Path(folder), tokenizer.vocab_size)
        )
