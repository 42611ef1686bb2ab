"""The state of one request: what it said, what of it is in the cache, and what else moves on with every token.

A request (`Job`) becomes one sequence for each continuation that it asks for. A sequence's tokens are certain; drafts never enter it.

    ids       known tokens, prompt and reply            [p p p p p r r r]
    computed  tokens whose keys and values are cached    ^^^^^^^^^^^^^ 7: all but the last, when it decodes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.engine.reply import Reply
from orrery.serve.engine.store import Swapped
from orrery.serve.engine.tables import BlockTables
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.sampling import Choice, Chooser, given

if TYPE_CHECKING:
    from orrery.serve.engine.beams import Beams


@dataclass(eq=False)
class Job:
    """A request under way.

    Attributes:
        unforked: sequences that begin when the first has read the prompt.
        beams: its beam search, if it is one. aside: its updates, if it runs beside the pool.
        done: the continuations that ended, by their index.
        prompt_logprobs: as far as the prompt is read; entry i is about token i + 1.
    """

    ticket: int
    request: GenerateRequest
    sequences: list[Sequence] = field(default_factory=list)
    unforked: list[Sequence] = field(default_factory=list)
    done: dict[int, Completion] = field(default_factory=dict)
    prompt_logprobs: list[dict[int, float]] = field(default_factory=list)
    beams: Beams | None = None
    aside: Iterator[Update] | None = None

    @property
    def completion(self) -> Completion | None:
        """What is handed over when the last continuation has ended."""
        if len(self.done) < len(self.sequences):
            return None
        made = [self.done[i] for i in sorted(self.done)]
        if not all(done.ids for done in made):  # cancelled early: there is nothing to rank
            return replace(made[0], others=tuple(made[1 : self.request.n]))
        return given(self.request, made)


@dataclass(eq=False)
class Sequence:
    """One continuation.

    Attributes:
        ticket: its name to the scheduler, the store of states, and the drafter.
        request: of this continuation alone (`choice_requests`).
        tables: where its cached tokens lie. row: its row of the block tables while it runs, else None.
        swapped: its blocks' content while it waits in ordinary memory.
        reads_prefix: whether it may begin with what is cached. leaves_prefix: whether others may find what it computed.
        adapter: the fingerprint of its adapter's weights. virtual: placeholders before the prompt, for its adapter's virtual tokens. vectors: by layer, what steering adds. looked: tokens whose activations were looked at.
        hidden: (d,) the last state of the model, for drafters that read states.
        arrival: the step in which the request came.
    """

    ticket: int
    job: Job
    choice: int
    request: GenerateRequest
    ids: list[int]
    chooser: Chooser
    reply: Reply
    constraint: Constraint | None
    tables: BlockTables
    arrival: int = 0
    computed: int = 0
    row: int | None = None
    swapped: Swapped | None = None
    reads_prefix: bool = True
    leaves_prefix: bool = True
    adapter: bytes = b""
    virtual: int = 0
    vectors: dict[int, Tensor] = field(default_factory=dict)
    looked: int = 0
    hidden: Tensor | None = None
    cached: int = 0
    drafted: int = 0
    accepted: int = 0
    preempted: int = 0
    observed: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def prompt(self) -> int:
        """Tokens of the prompt, virtual ones before it included."""
        return self.virtual + len(self.request.ids)

    @property
    def remaining(self) -> int:
        """Known tokens that are not in the cache: 1 while it decodes."""
        return len(self.ids) - self.computed

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.reply.finish is not None

    @property
    def forks(self) -> list[Sequence]:
        """Sequences that begin when this one has read the prompt."""
        return self.job.unforked if self.choice == 0 else []

    @property
    def slots(self) -> int:
        """How many sequences it may become."""
        return 1 + len(self.forks) if self.job.beams is None else self.job.beams.slots(self)

    def push(self, choice: Choice, *, whole: bool = False) -> str:
        """Take a token on that chooser and grammar know of already; returns the text that is certain with it."""
        self.ids.append(choice.id)
        return self.reply.push(choice, whole=whole)

    def look(self, found: Mapping[str, list[Any]], upto: int) -> None:
        """Take in what was seen at its tokens before position `upto`."""
        for what, entries in found.items():
            self.observed.setdefault(what, []).extend(entries)
        self.looked = max(self.looked, upto)

    def complete(self) -> Completion:
        """What came of it."""
        return self.reply.completion(
            drafted=self.drafted,
            accepted=self.accepted,
            cached=self.cached,
            observed=self.observed,
            prompt=tuple(self.job.prompt_logprobs),
        )


@dataclass(frozen=True, kw_only=True)
class Update:
    """What is new of one continuation.

    Attributes:
        ticket: of the request. choice: the index of the continuation.
        text: certain by now, to be shown behind what came before. ids, logprobs, top_logprobs: of the new tokens.
        completion: with the last update of the request. error: the request failed, and this is its last update.
    """

    ticket: int
    choice: int = 0
    text: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[dict[int, float], ...] = ()
    observed: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    completion: Completion | None = None
    error: Exception | None = None

    @property
    def last(self) -> bool:
        """Nothing more comes of the request."""
        return self.completion is not None or self.error is not None
