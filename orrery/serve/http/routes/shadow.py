"""What the shadow would have said, in numbers: /shadow. Only where there is one."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from orrery.serve.http.routes import ERRORS, service_of

router = APIRouter()


@router.get("/shadow", responses=ERRORS)
async def shadow(request: Request) -> Response:
    """Counts and means of the differences, and the last of them; no text of anybody."""
    found = service_of(request).shadow
    assert found is not None
    return JSONResponse(found.report())
