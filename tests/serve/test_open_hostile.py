"""GGUF files whose model is whole and whose text side is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.model.gguf.write import write_model
from orrery.serve.open import open_gguf
from orrery.text import Tokenizer
from orrery.text.gguf_vocab_write import metadata_of_tokenizer

WALK = "{{ ''.__class__.__mro__[1].__subclasses__() }}"


@pytest.fixture
def written(tokenizer: Tokenizer, make_model: Any, tmp_path: Path) -> Any:
    """(keys that replace those of the vocabulary, rows of the model) -> a file."""

    def write(changes: dict[str, Any], rows: int | None = None) -> Path:
        keys = metadata_of_tokenizer(tokenizer) | changes
        model = make_model(rows or tokenizer.vocab_size)
        write_model(tmp_path / "x.gguf", model, kind="f32", name="x", vocabulary=keys)
        return tmp_path / "x.gguf"

    return write


def test_what_is_whole_opens(written: Any, tokenizer: Tokenizer) -> None:
    assert open_gguf(written({})).tokenizer.encode("the cat") == tokenizer.encode("the cat")


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("tokens", ["a", "b"], "token"),
        ("token_type", np.ones(3, np.int32), "token_type"),
        ("bos_token_id", 2**32 - 1, "bos_token_id|4294967295"),
        ("eos_token_id", 10**6, "eos_token_id|1000000"),
        ("model", "made-up", "made-up"),
        ("pre", "made-up", "made-up"),
    ],
)
def test_a_vocabulary_that_contradicts_itself(written: Any, key: str, value: Any, says: str) -> None:
    with pytest.raises(OrreryError, match=says):
        open_gguf(written({f"tokenizer.ggml.{key}": value}))


def test_more_tokens_than_the_model_has_rows(written: Any, tokenizer: Tokenizer) -> None:
    with pytest.raises(OrreryError, match="do not belong together"):
        open_gguf(written({}, rows=tokenizer.vocab_size - 1))


def test_a_template_that_walks_objects_runs_no_code(written: Any) -> None:
    opened = open_gguf(written({"tokenizer.chat_template": WALK}))
    with pytest.raises(OrreryError):
        if opened.chat is None:
            raise opened.chat_fault or AssertionError("neither a format nor a fault")
        opened.chat.render([{"role": "user", "content": "x"}])
