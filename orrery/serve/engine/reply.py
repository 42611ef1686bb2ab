"""What one continuation has said so far: its tokens, their log-probabilities, and the text that is certain by now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orrery.kit.lm import Completion, FinishReason, GenerateRequest
from orrery.serve.generate import primed_detokenizer
from orrery.serve.sampling import Choice
from orrery.serve.stop import StopStrings
from orrery.text.tokenizer import Tokenizer


class Reply:
    """Push tokens; what comes back never holds half a character or a part of a stop string.

    Attributes:
        ids: the tokens made; the stop id is among them, if one ended the reply, though the text does not show it.
        finish: why it ended, or None while it has not.
    """

    def __init__(
        self, tokenizer: Tokenizer, request: GenerateRequest, stop_ids: Collection[int], room: int
    ) -> None:
        """`room`: the reply ends after so many tokens."""
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.top_logprobs: list[dict[int, float]] = []
        self.finish: FinishReason | None = None
        self._text: list[str] = []
        self._room, self._stop_ids = room, frozenset() if request.ignore_eos else frozenset(stop_ids)
        self._stop = StopStrings(request.stop)
        self._detokenizer = primed_detokenizer(tokenizer, request.ids)
        self._keeps_top = request.logprobs is not None

    def push(self, choice: Choice, *, whole: bool = False) -> str:
        """The text that is certain with this token; `whole`: its grammar lets nothing come after it."""
        self.ids.append(choice.id)
        self.logprobs.append(choice.logprob)
        if self._keeps_top:
            self.top_logprobs.append(choice.top)
        ended = choice.id in self._stop_ids
        text = "" if ended else self._stop.push(self._detokenizer.push(choice.id))
        if ended or self._stop.found or whole or len(self.ids) >= self._room:
            text += self._rest()
            self.finish = "stop" if ended or self._stop.found or whole else "length"
        return self._said(text)

    def cancel(self) -> str:
        """The reply ends here; the text that was held back."""
        self.finish = "cancelled"
        return self._said(self._rest())

    def _rest(self) -> str:
        if self._stop.found:
            return ""
        return self._stop.push(self._detokenizer.flush()) + self._stop.flush()

    def _said(self, text: str) -> str:
        if text:
            self._text.append(text)
        return text

    @property
    def room(self) -> int:
        """How many tokens may still come."""
        return self._room - len(self.ids)

    def completion(self, *, drafted: int, accepted: int, cached: int, observed: Mapping[str, Any], prompt: tuple[dict[int, float], ...]) -> Completion:  # fmt: skip
        """All of it, once it has ended."""
        assert self.finish is not None
        return Completion(
            text="".join(self._text),
            ids=tuple(self.ids),
            logprobs=tuple(self.logprobs),
            finish_reason=self.finish,
            top_logprobs=tuple(self.top_logprobs),
            prompt_logprobs=prompt,
            cached_tokens=cached,
            drafted=drafted,
            accepted=accepted,
            observed=observed,
        )
