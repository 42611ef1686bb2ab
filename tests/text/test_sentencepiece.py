"""`.model` files: unigram and BPE, whole and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.text.reference import encode_unigram
from orrery.text.sentencepiece import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    USER,
    fields,
    sentencepiece_file,
)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def message(*entries: tuple[int, int | bytes | float]) -> bytes:
    """A protocol buffer message: ints as varints, floats as 32 bits, bytes with their length."""
    out = b""
    for number, value in entries:
        if isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def model(
    pieces: list[tuple[str, float, int]], kind: int, *, prefix: bool = True, squeeze: bool = False
) -> bytes:
    body = [(1, message((1, text.encode()), (2, score), (3, type_))) for text, score, type_ in pieces]
    return message(
        *body,
        (2, message((3, kind), (40, 0), (41, 1), (42, 2))),
        (3, message((1, b"identity"), (3, int(prefix)), (4, int(squeeze)))),
    )


CONTROLS = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
BYTES = [(f"<0x{b:02X}>", 0.0, BYTE) for b in range(256)]
WORDS = [("▁", -3.0, NORMAL), ("a", -3.5, NORMAL), ("b", -3.5, NORMAL), ("c", -2.0, NORMAL), ("ab", -5.0, NORMAL), ("▁ab", -5.5, NORMAL), ("bc", -4.0, NORMAL)]  # fmt: skip


def test_unigram(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(model([*CONTROLS, *WORDS], UNIGRAM))
    tokenizer = sentencepiece_file(path)
    assert (tokenizer.unknown_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    logp = {text: score for text, score, _ in WORDS}
    for text in ("abc", "abab", "cab c", "bcbc"):
        spelled = "▁" + text.replace(" ", "▁")
        assert [p.name for p in tokenizer.pieces(text)] == encode_unigram(spelled, logp)
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("axb") == [tokenizer.id("▁"), tokenizer.id("a"), 0, tokenizer.id("b")]
    assert not {1, 2} & set(tokenizer.encode("<s></s>"))


def test_bpe_with_bytes(tmp_path: Path) -> None:
    """Scores of a BPE model are minus the rank: ab was merged before bc, so abc is ab + c."""
    path = tmp_path / "x.model"
    ranked = [("ab", -0.0, NORMAL), ("bc", -1.0, NORMAL), ("▁ab", -2.0, NORMAL)]
    letters = [(char, -3.0 - i, NORMAL) for i, char in enumerate("▁abc")]
    path.write_bytes(model([*CONTROLS, *BYTES, *ranked, *letters, ("<x>", 0.0, USER)], BPE))
    tokenizer = sentencepiece_file(path)
    assert [p.name for p in tokenizer.pieces("abc")] == ["▁ab", "c"]
    assert [p.name for p in tokenizer.pieces("cbc")] == ["▁", "c", "bc"]
    assert tokenizer.decode(tokenizer.encode("a\né")) == "a\né" and tokenizer.id(
        "<0xC3>"
    ) in tokenizer.encode("é")
    assert tokenizer.id("<x>") in tokenizer.encode(
        "a<x>b"
    )  # a user's own piece is always found, and is no control token
    assert tokenizer.special == {"<unk>": 0, "<s>": 1, "</s>": 2}


def test_prefix_and_squeezing_follow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(model([*CONTROLS, *WORDS], UNIGRAM, prefix=False))
    assert [p.name for p in sentencepiece_file(path).pieces("c c")] == ["c", "▁", "c"]
    path.write_bytes(model([*CONTROLS, *WORDS], UNIGRAM, squeeze=True))
    tokenizer = sentencepiece_file(path)
    assert tokenizer.encode("  c   c ") == tokenizer.encode("c c")


def test_saved_and_opened_again(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(model([*CONTROLS, *BYTES, *WORDS], UNIGRAM))
    tokenizer = sentencepiece_file(tmp_path / "x.model")
    tokenizer.save(tmp_path / "folder")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "folder")
    for text in ("abc ab", "é\n<0x41>", "  a"):
        assert theirs(text)["input_ids"] == tokenizer.encode(text)


def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path: Path) -> None:
    data, path = model([*CONTROLS, *WORDS], UNIGRAM), tmp_path / "x.model"
    for end in range(len(data)):
        path.write_bytes(data[:end])
        try:
            sentencepiece_file(path).encode("abc")
        except OrreryError as error:
            assert str(path) in str(error) or "cannot encode" in str(error)
    for bad in (b"", b"hello, this is text", b"\xff" * 30):
        path.write_bytes(bad)
        with pytest.raises(OrreryError, match=r"x\.model"):
            sentencepiece_file(path)
    with pytest.raises(OrreryError, match="cannot read"):
        sentencepiece_file(tmp_path / "none.model")


def test_models_of_words_or_characters_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(model([*CONTROLS, *WORDS], 3))
    with pytest.raises(OrreryError, match="words or characters"):
        sentencepiece_file(tmp_path / "x.model")


def test_protocol_buffer_fields() -> None:
    assert list(fields(message((1, 300), (2, b"xy"), (3, 1.5)))) == [
        (1, 300),
        (2, b"xy"),
        (3, struct.pack("<f", 1.5)),
    ]
    for bad in (b"\x08", b"\x12\x05ab", b"\x0b", b"\x80" * 11):
        with pytest.raises(ValueError):
            list(fields(bad))
