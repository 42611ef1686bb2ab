"""The web page at /: files of one folder, read once when the server starts, so that no request can name another."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

from orrery.serve.http.errors import ApiError

FOLDER = Path(__file__).parents[1] / "page"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}  # fmt: skip
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def page_router(folder: Path = FOLDER) -> APIRouter:
    """Routes for / and /page/...; none where the folder has no page."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    router = APIRouter(include_in_schema=False)

    def served(name: str) -> Response:
        if name not in files:
            raise ApiError(404, "there is nothing at this address")
        suffix = Path(name).suffix
        kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(
            files[name],
            media_type=kind,
            headers={"content-security-policy": POLICY, "cache-control": "no-cache"},
        )

    @router.get("/")
    async def index() -> Response:
        return served("index.html")

    @router.get("/page/{name:path}")
    async def asset(name: str) -> Response:
        return served(name)

    return router
