"""Small tokenizers of every kind, trained once on text that is on every machine."""

from __future__ import annotations

import gzip
import struct
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer

KINDS = ("bpe", "bpe-fallback", "wordpiece", "unigram")
SAMPLES = [
    "",
    " ",
    "Hello, world!",
    "  two spaces and a tab\tand\n\nblank lines \r\n end  ",
    "naïve café, señor, Straße; Привет, мир! 你好，世界。 こんにちは ສະບາຍດີ",
    "emoji 😀👩‍👩‍👧‍👦 and a flag 🇨🇭, zero\u200bwidth, combining e\u0301\u0301",
    "I'M, we'LL, they'd, it'ſ don't; x=3.14159; 1234567890 ½ ²",
    "def f(x):\n    return x + 1  # comment\n",
    "<|user|> <unk> [UNK] <s> </s> <0x41> <|end|><|end_of_text|> <|begin_of_text|>",
    "\x00\x01\x7f \ufeff \u2028 \U0010ffff",
]


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    """Real English prose and code: two modules of the standard library, in paragraphs."""
    return [
        part for part in Path(textwrap.__file__).read_text(encoding="utf-8").split("\n\n") if part
    ] + SAMPLES


@pytest.fixture(scope="session")
def trained(corpus: list[str]) -> Callable[[str], Tokenizer]:
    """A tokenizer of a kind, trained once a session."""
    made: dict[str, Tokenizer] = {}

    def get(kind: str) -> Tokenizer:
        if kind not in made:
            made[kind] = train_tokenizer(corpus, TokenizerConfig(kind=kind, vocab_size=700))  # type: ignore[arg-type]
        return made[kind]

    return get


@pytest.fixture(scope="session")
def bpe(trained: Callable[[str], Tokenizer]) -> Tokenizer:
    """Byte-level BPE, the default kind."""
    return trained("bpe")


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, trained: Callable[[str], Tokenizer]) -> Tokenizer:
    """Each kind in turn."""
    return trained(request.param)


@pytest.fixture(scope="session")
def gpt2_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's real encoder.json and vocab.bpe."""
    folder = tmp_path_factory.mktemp("gpt2")
    for name in ("encoder.json", "vocab.bpe"):
        packed = shared_data / "tokenizers" / f"gpt2.{name}.gz"
        (folder / name).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def gguf_metadata(path: Path) -> dict[str, Any]:
    """The key-value part of a GGUF file."""
    data, at = path.read_bytes(), 24
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    numbers = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def take(form: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def strings(count: int) -> list[str]:
        nonlocal at
        found, start = [], at
        for _ in range(count):  # up to half a million, so without a call for each
            end = start + 8 + int.from_bytes(data[start : start + 8], "little")
            found.append(data[start + 8 : end].decode())
            start = end
        at = start
        return found

    def value(kind: int) -> Any:
        nonlocal at
        if kind == 8:
            size = take("Q")
            at += size
            return data[at - size : at].decode()
        if kind == 9:
            inner, size = take("I"), take("Q")
            if inner == 8:
                return strings(size)
            packed = struct.unpack_from(f"<{size}{numbers[inner]}", data, at)
            at += struct.calcsize(f"<{size}{numbers[inner]}")
            return list(packed)
        return take(numbers[kind])

    return {value(8): value(take("I")) for _ in range(struct.unpack_from("<Q", data, 16)[0])}
