from __future__ import annotations

from tests.serve.http.page.conftest import chromium

__all__ = ["chromium"]
