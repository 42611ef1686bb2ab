"""What one request asks of every pass besides tokens: an adapter, steering, and things to look at.

    extras = Extras(model, request, known=tokenizer.vocab_size)
    with extras.around(ctx):
        hidden = model(tokens, ctx)
    extras.observed                             # grows from pass to pass: `Completion.observed`

For passes of one sequence; a batch of many puts `adapters`, `steer` and `observe` together itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orrery.kit.lm import GenerateRequest
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.serve.adapters import Adapters
from orrery.serve.observable import check_observe
from orrery.serve.observe import Observer, Watched
from orrery.serve.steer import steered, steering_vectors


class Extras:
    """Those of one request. A position that is read again (a context that starts anew) is looked at once.

    Raises:
        OrreryError: no such adapter, steering that does not fit the model, or something that cannot be looked at.
    """

    def __init__(self, model: Decoder, request: GenerateRequest, *, known: int | None = None) -> None:
        self.model, self.request, self.known = model, request, known
        self._adapters = Adapters.of(model)
        self._adapters.check(request.adapter)
        self._vectors = steering_vectors(model, request.steering)
        check_observe(model, request.observe, prompt=len(request.ids), made=request.max_tokens)
        self.observed: dict[str, list[Any]] = {wish.what: [] for wish in request.observe}
        self._seen = 0

    @contextmanager
    def around(self, ctx: Context) -> Iterator[None]:
        """One pass over tokens of the request's sequence, which is the only one of `ctx`."""
        ctx.adapters = self._adapters.of_tokens([self.request.adapter], ctx.lengths)
        watched = Watched(
            piece=0, prompt=len(self.request.ids), observe=self.request.observe, seen=self._seen
        )
        observer = Observer(self.model, [watched], known=self.known)
        with steered(self.model, ctx, {0: self._vectors}), observer.attached(ctx):
            yield
        for what, entries in observer.results()[0].items():
            self.observed[what] += entries
        self._seen = int(ctx.positions[-1]) + 1
