"""Schemathesis on our own OpenAPI document: all phases, valid and invalid data, every check but one.

Left out is `positive_data_acceptance`: a schema cannot say that an id is beyond the vocabulary, that a text is longer than the context,
or that two fields exclude each other, so what it calls valid may well be refused with a 400.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from tests.serve.http.conftest import serving

KEY = "sk-schemathesis"


def run(url: str, folder: Path, examples: int, seconds: int) -> dict[str, Any]:
    """The report of `schemathesis run`."""
    report = folder / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--no-color"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--max-examples", str(examples), "--max-time", str(seconds), "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--continue-on-failure", "--seed", "1", "--no-shrink"),
        *("-H", f"Authorization: Bearer {KEY}", "--report", "json", "--report-json-path", str(report)),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)},
    )
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return json.loads(report.read_text())


@pytest.mark.parametrize(
    ("examples", "seconds"), [(3, 15), pytest.param(300, 90, marks=pytest.mark.slow)], ids=["quick", "long"]
)
def test_our_own_document(chat_lm, tmp_path, examples: int, seconds: int) -> None:
    engine = AsyncEngine(Engine(chat_lm, EngineConfig(max_sequences=8)))
    with serving(engine, api_keys=(KEY,), max_tokens=4, max_n=2, request_timeout_s=30.0) as server:
        run(server.url, tmp_path, examples, seconds)
        text = server.app.state.service.metrics.text().decode()
    answers = [line for line in text.splitlines() if line.startswith("orrery_http_answers_total")]
    print("\n".join(answers))
    assert not [line for line in answers if 'status="5' in line]
    assert any('status="200"' in line for line in answers) and any('status="400"' in line for line in answers)
