"""`orrery serve` in a process of its own: what it says, what it serves, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from orrery.cli.serve import serve
from orrery.kit.errors import OrreryError
from tests.serve.http.raw import ask, head

KEY = "sk-from-the-environment"


@pytest.fixture(scope="module")
def served(small_run: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """(process, URL, what it said)"""
    command = [sys.executable, "-c", "from orrery.cli import main; main()", "serve", str(small_run)]
    process = subprocess.Popen(
        [
            *command,
            "--port",
            "0",
            "--name",
            "small",
            "--queue",
            "4",
            "--max-tokens",
            "32",
            "--speculate",
            "lookup",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ORRERY_API_KEY": KEY, "COLUMNS": "200"},
    )
    said = ""
    assert process.stderr is not None and process.stdout is not None
    while "Ctrl-C" not in said:
        line = process.stderr.readline()
        assert line, f"it ended: {said}"
        said += line
    url = next(word for word in said.split() if word.startswith("http://")).rstrip("/")
    yield process, url, said
    process.kill()
    process.wait()
    process.stderr.close()
    process.stdout.close()


def test_serving(served: Any) -> None:
    process, url, said = served
    port = int(url.rpartition(":")[2])
    assert "small" in said and f"curl {url}/v1/" in said and "Authorization: Bearer KEY" in said
    assert KEY not in said
    assert ask(port, head("GET", "/health")).status == 200
    assert ask(port, head("GET", "/v1/models")).status == 401
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["small"]
        first, again = (
            client.completions.create(model="small", prompt="the cat", max_tokens=8, temperature=0.7, seed=1)
            for _ in range(2)
        )
        assert first.choices == again.choices
        assert first.usage.completion_tokens > 0
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="small", prompt="x", max_tokens=33)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": Path("nothing-here")}, "nothing-here"),
        ({"adapter": ["x"]}, "NAME=PATH"),
        ({"adapter": ["x=nowhere"]}, "nowhere"),
        ({"host": "192.0.2.1", "api_key": ["k"]}, "cannot listen"),
        ({"host": "0.0.0.0"}, "give it a key"),
        ({"kv_dtype": "int3"}, "kv_dtype"),
        ({"speculate": "no-such-model"}, "no-such-model"),
    ],
)
def test_mistakes_are_one_sentence(small_run: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(OrreryError, match=words):
        serve(**{"model": small_run, "port": 0, **settings})


def test_an_adapter_is_served_under_its_name(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orrery
    from orrery.cli import serve as module
    from orrery.model.adapters import Lora, new_adapter
    from orrery.model.adapters.folder import save_adapter

    lm = orrery.load(small_run)
    save_adapter(new_adapter(lm.model, Lora(rank=2)), lm.model, tmp_path / "polite")
    made: list[Any] = []
    monkeypatch.setattr(module, "_run", lambda *arguments, **settings: made.extend(arguments))
    serve(small_run, port=0, adapter=[f"polite={tmp_path / 'polite'}"], api_key=["", "k"], kv_memory=8.0)
    service = made[0].config.app.state.service
    assert service.adapters == ("polite",)
    assert service.settings.api_keys == ("k",)
    assert service.settings.max_tokens == lm.context
