"""A foreign chat template: rendered by our interpreter, turned into ids with a role for each, its properties found by probes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.answer import parse_answer
from orrery.text.assistant_spans import Prompt, Span, assistant_spans, runs_of, speaks
from orrery.text.conversation import NAMED_TOKENS, variables_of
from orrery.text.jinja.limits import Limits
from orrery.text.jinja.marked import Text
from orrery.text.jinja.program import Now, Program
from orrery.text.rendered import Message, Rendered, Role
from orrery.text.template_ids import MarkedEncoder, Piece
from orrery.text.tokenizer import Tokenizer

_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "human": Role.USER}
_ROLES |= {"assistant": Role.ASSISTANT, "model": Role.ASSISTANT}
_TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}},
}
_CALL = {"type": "function", "id": "call00001", "function": {"name": "add", "arguments": {"a": 1}}}
_ASK: dict[str, Any] = {"role": "user", "content": "Question"}
_SAY: dict[str, Any] = {"role": "assistant", "content": "Answer"}
_PARTS: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "Question"}]}
_PARTS_SAY: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": "Answer"}]}
_USE: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_TOLD: dict[str, Any] = {"role": "tool", "name": "add", "tool_call_id": "call00001", "content": "1"}
PROBES: tuple[tuple[list[dict[str, Any]], list[Any] | None], ...] = (
    ([_ASK, _SAY, _ASK, _SAY], None),
    ([_ASK, _SAY | {"reasoning_content": "Thought"}, _ASK, _SAY | {"reasoning_content": "Thought"}], None),
    ([_ASK, _USE, _TOLD, _SAY, _ASK, _SAY], [_TOOL]),
)


class TemplateFormat:
    """One template for one tokenizer; without a tokenizer it gives text only."""

    def __init__(
        self,
        template: str | Mapping[str, str],
        tokenizer: Tokenizer | None = None,
        *,
        tokens: Mapping[str, str] | None = None,
        stop_ids: Sequence[int] = (),
        limits: Limits | None = None,
    ) -> None:
        """
        Args:
            template: a template, or several by name: "tool_use" serves where there are tools, "default" elsewhere.
            tokens: bos_token, eos_token ... where they differ from the tokenizer's own.
            stop_ids: ids that end an answer besides those found here.

        Raises:
            OrreryError: see `Program`; or several templates without a default.
        """
        named = {"default": template} if isinstance(template, str) else dict(template)
        if "default" not in named:
            raise OrreryError(
                f"there are chat templates named {', '.join(sorted(named))}, but none named default"
            )
        self.named = named
        self.tokenizer = tokenizer
        self.programs = {name: Program(source, limits) for name, source in named.items()}
        self.special: Mapping[str, int] = {} if tokenizer is None else tokenizer.special
        self.tokens = _named_tokens(tokenizer) | dict(tokens or {})
        self.more_stops = tuple(stop_ids)
        self._encoder = None if tokenizer is None else MarkedEncoder(tokenizer, "\n".join(named.values()))

    def marked(
        self,
        messages: Sequence[Message],
        tools: Any = None,
        add_generation_prompt: bool = True,
        *,
        now: Now = None,
        **variables: Any,
    ) -> Text:
        """The text with a mark for every character."""
        given = variables_of(
            messages,
            tools,
            add_generation_prompt=add_generation_prompt,
            tokens=self.tokens,
            extra=variables,
            special=self.special,
        )
        name = "tool_use" if tools is not None and "tool_use" in self.programs else "default"
        return self.programs[name].render(given, now=now)

    def encode(
        self, messages: Sequence[Message], *, tools: Any = None, generate: bool = False, **variables: Any
    ) -> tuple[Text, list[Piece]]:
        """The marked text, and its ids with their places."""
        encoder, tokenizer = self._with_tokenizer()
        text = self.marked(messages, tools, generate, **variables)
        speaking = frozenset(turn for turn, message in enumerate(messages) if speaks(message))
        pieces = encoder.encode(text, speaking)
        if tokenizer.bos_id is not None and [piece.id for piece in pieces[:2]] == [tokenizer.bos_id] * 2:
            raise OrreryError(
                "the chat template begins with BOS twice; leave it out of the template or of bos_token"
            )
        return text, pieces

    def render(
        self, messages: Sequence[Message], *, tools: Any = None, generate: bool = False, **variables: Any
    ) -> Rendered:
        """Ids, roles and turns."""
        encoder, _ = self._with_tokenizer()
        text, pieces = self.encode(messages, tools=tools, generate=generate, **variables)
        spans, method = assistant_spans(
            text, messages, self._prompts(messages, tools, variables), encoder.names
        )
        out = Rendered(ids=[piece.id for piece in pieces], pieces=[str(text)], mask_method=method)
        for role, turn in _roles(text, messages, pieces, spans):
            out.roles.append(role)
            out.turns.append(turn)
        return out

    def _prompts(self, messages: Sequence[Message], tools: Any, variables: Mapping[str, Any]) -> Prompt:
        def prompt(count: int, generate: bool) -> Text:
            start = messages[:count] if count >= 0 else [_ASK]
            return self.marked(start, tools, generate, **variables)

        return prompt

    def _with_tokenizer(self) -> tuple[MarkedEncoder, Tokenizer]:
        if self._encoder is None or self.tokenizer is None:
            raise OrreryError("this chat format has no tokenizer, so it gives text but no ids; give it one")
        return self._encoder, self.tokenizer

    # --- properties, found by probes

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: what the template puts after the assistant's words and calls, and EOS."""
        _, tokenizer = self._with_tokenizer()
        found: dict[int, None] = {}
        for messages, tools in (([_ASK, _SAY], None), ([_PARTS, _PARTS_SAY], None), ([_ASK, _USE], [_TOOL])):
            if (stop := self._closing(messages, tools)) is not None:
                found[stop] = None
        if not found and (stop := self._closing([_ASK, _SAY, _ASK], None)) is not None:
            found[stop] = None  # a format that closes no turn: the next one's header ends the answer
        eos = self.special.get(self.tokens.get("eos_token", ""), tokenizer.eos_id)
        if eos is not None:
            found[eos] = None
        return tuple(dict.fromkeys((*found, *self.more_stops)))

    def _closing(self, messages: Sequence[Message], tools: list[Any] | None) -> int | None:
        """The control token that ends what message 1 says."""
        encoder, _ = self._with_tokenizer()
        try:
            text = self.marked(messages, tools, False)
            spans, _ = assistant_spans(text, messages, self._prompts(messages, tools, {}), encoder.names)
        except OrreryError:
            return None
        words = [run.end for run in runs_of(text) if run.words and run.turn == 1]
        if not words or not spans:
            return None
        inside = [match[0] for match in encoder.names.finditer(str(text)[words[-1] : spans[0][1]])]
        after = [match[0] for match in encoder.names.finditer(str(text)[words[-1] :])]
        if inside or (after and len(messages) > 2):
            return self.special[inside[-1] if inside else after[0]]
        return None

    @cached_property
    def append_only(self) -> bool:
        """Whether the probe conversations keep their beginnings as they grow."""
        kept = []
        for messages, tools in PROBES:
            try:
                kept.append(self.keeps_prefixes(messages, tools=tools))
            except OrreryError:
                continue  # a conversation that this template refuses
        return bool(kept) and all(kept)

    def keeps_prefixes(self, messages: Sequence[Message], *, tools: Any = None, **variables: Any) -> bool:
        """Whether this conversation's text begins with that of each of its beginnings, prompts for the assistant included."""
        whole = str(self.marked(messages, tools, False, **variables))
        for n in range(1, len(messages)):
            asks = [False, True] if messages[n]["role"] == "assistant" else [False]
            if not all(
                whole.startswith(str(self.marked(messages[:n], tools, ask, **variables))) for ask in asks
            ):
                return False
        return True

    def parse(self, ids: Sequence[int]) -> dict[str, Any]:
        """The message that generated ids spell; see `answer.py`."""
        _, tokenizer = self._with_tokenizer()
        ids = [int(i) for i in ids]
        stops = set(self.stop_ids)
        end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
        return parse_answer(tokenizer.decode(ids[:end]), "\n".join(self.named.values()))


def _named_tokens(tokenizer: Tokenizer | None) -> dict[str, str]:
    """bos_token, eos_token ... as the tokenizer's settings name them."""
    if tokenizer is None:
        return {}
    found = {}
    for name in NAMED_TOKENS:
        value = tokenizer.settings.get(name)
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str):
            found[name] = value
    return found


def _roles(
    text: Text, messages: Sequence[Message], pieces: Sequence[Piece], spans: Sequence[Span]
) -> list[tuple[Role, int]]:
    """(role, turn) of each id: the assistant's where it touches a span, else by the first word from outside in it."""
    runs = runs_of(text)
    starts = [run.start for run in runs]
    out: list[tuple[Role, int]] = []
    at = 0
    for piece in pieces:
        while at < len(spans) and spans[at][1] <= piece.start:
            at += 1
        index = max(bisect_right(starts, piece.start) - 1, 0)
        touched = [
            run for run in runs[index : index + 8] if run.start < max(piece.end, piece.start + 1)
        ] or runs[:1]
        run = next((run for run in touched if run.words), touched[0]) if touched else None
        turn = -1 if run is None else run.turn
        if at < len(spans) and spans[at][0] < max(piece.end, piece.start + 1):
            inside = [r.turn for r in touched if r.turn >= 0 and r.end > spans[at][0]]
            out.append((Role.ASSISTANT, inside[0] if inside else turn))
        elif run is None or not run.words:
            out.append((Role.STRUCTURE, turn))
        else:
            out.append((_role(messages, turn), turn))
    return out


def _role(messages: Sequence[Message], turn: int) -> Role:
    if turn < 0:
        return Role.SYSTEM  # tools, documents, variables
    role = _ROLES.get(str(messages[turn].get("role")), Role.TOOL)
    return Role.STRUCTURE if role == Role.ASSISTANT else role
