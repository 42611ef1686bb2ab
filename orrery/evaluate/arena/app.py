"""The arena's page and its routes: what may be seen of a comparison before the end, and what may not.

Everything passes the same door as the model server's requests: host names, keys, sizes (`serve.http.door`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI
from pydantic import Field, StringConstraints

from orrery.evaluate.arena.ballot import Arena, Ballot
from orrery.evaluate.arena.tally import tally
from orrery.evaluate.judge.summary import plain
from orrery.serve.http.door import Door
from orrery.serve.http.errors import ApiError, install
from orrery.serve.http.lifecycle import Gate
from orrery.serve.http.metrics import Metrics
from orrery.serve.http.routes.page import page_router
from orrery.serve.http.schema.common import Body
from orrery.serve.http.settings import ServerSettings

PAGE = Path(__file__).parent / "page"
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Grades = Annotated[dict[str, int], Field(max_length=64)]


class Person(Body):
    """Who asks."""

    annotator: Name


class BackTo(Person):
    """One step back; `before` is the comparison on the screen, or null behind the last one."""

    before: str | None = None


class Choosing(Person):
    """A vote."""

    ballot: str
    choice: Literal["left", "right", "tie", "bad", "skip"]
    ratings: dict[Literal["left", "right"], Grades] = Field(default_factory=dict)


def make_arena_app(arena: Arena, *, settings: ServerSettings) -> FastAPI:
    """An ASGI application over an arena; closing the arena is the caller's."""
    app = FastAPI(
        title="orrery arena", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    gate = app.state.gate = Gate(settings.max_requests)
    install(app)
    app.include_router(_routes(arena))
    app.include_router(page_router(PAGE))
    app.add_middleware(Door, settings=settings, gate=gate, metrics=Metrics(lambda: None, gate))
    return app


def _routes(arena: Arena) -> APIRouter:
    router = APIRouter(prefix="/api")

    @router.get("/arena")
    async def about() -> dict[str, Any]:
        """What is rated, and on which scale."""
        rubric = arena.rubric
        if rubric is None:
            return {"criteria": {}}
        return {"criteria": rubric.criteria, "low": rubric.low, "high": rubric.high}

    @router.post("/ballot")
    async def ballot(body: Person) -> dict[str, Any]:
        """The next comparison without a vote."""
        return _shown(arena, body.annotator, arena.next(body.annotator))

    @router.post("/back")
    async def back(body: BackTo) -> dict[str, Any]:
        """The comparison voted on before this one."""
        ballot = arena.before(body.annotator, body.before)
        if ballot is None:
            raise ApiError(409, "there is nothing to go back to")
        return _shown(arena, body.annotator, ballot)

    @router.post("/vote")
    async def vote(body: Choosing) -> dict[str, Any]:
        """Written down; then the next comparison."""
        arena.vote(body.annotator, body.ballot, body.choice, {side: g for side, g in body.ratings.items()})
        return _shown(arena, body.annotator, arena.next(body.annotator))

    @router.post("/results")
    async def results(body: Person) -> dict[str, Any]:
        """Names and numbers, for who has seen everything."""
        arena.end(body.annotator)
        return plain(tally(arena.votes))

    return router


def _shown(arena: Arena, annotator: str, ballot: Ballot | None) -> dict[str, Any]:
    """What a person may see of a comparison: texts and sides, no names."""
    voted, total = arena.voted(annotator), len(arena.ballots(annotator))
    if ballot is None:
        return {"done": True, "of": total}
    texts = [answers.texts[ballot.question.id] for answers in (ballot.left, ballot.right)]
    return {
        "done": False,
        "ballot": ballot.id,
        "number": (list(voted).index(ballot.id) if ballot.id in voted else len(voted)) + 1,
        "of": total,
        "turns": [
            {"request": ballot.question.turns[i], "left": texts[0][i], "right": texts[1][i]}
            for i in range(ballot.turns)
        ],
    }
