"""TK: tokenizer.json and the other formats of a vocabulary, and texts that are hard to encode."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Opens
from tests.hostile.seeds import FLAGS, model_folder, tokenizer

Build = Callable[[Path], Iterator[Opens]]
Change = Callable[[dict[str, Any]], Any]


def specs(*changes: Change) -> Build:
    """tokenizer.json with each of these changes, by itself and in a model folder."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, change in enumerate(changes):
            spec = tokenizer()
            change(spec)
            there = model_folder(folder / str(i))
            (there / "tokenizer.json").write_text(json.dumps(spec))
            yield "tokenizer", there / "tokenizer.json"
            yield "model", there

    return build


def text(content: str) -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        (folder / "tokenizer.json").write_text(content)
        yield "tokenizer", folder

    return build


def stage(name: str, value: Any) -> Change:
    return lambda spec: spec.update({name: value})


def model(**values: Any) -> Change:
    return lambda spec: spec["model"].update(values)


def added(**token: Any) -> Change:
    return lambda spec: spec["added_tokens"].append({"special": True, **FLAGS, **token})


def vocabulary(**ids: int) -> Change:
    return lambda spec: spec["model"]["vocab"].update(ids)


def split(pattern: str) -> Change:
    return stage(
        "pre_tokenizer",
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
    )


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(depth):
        value = {"type": "Sequence", "normalizers": [value]}
    return value


def replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def deep(folder: Path) -> Iterator[Opens]:
    whole = json.dumps(tokenizer())
    stages = '{"type":"Sequence","normalizers":[' * 5000 + '{"type":"Lowercase"}' + "]}" * 5000
    (folder / "tokenizer.json").write_text(whole.replace('"normalizer": null', f'"normalizer": {stages}'))
    yield "tokenizer", folder


def sparse(folder: Path) -> Iterator[Opens]:
    with open(folder / "tokenizer.json", "wb") as handle:
        handle.write(b'{"model":{"vocab":{')
        handle.truncate(500 << 20)
    yield "tokenizer", folder


def settings(*contents: dict[str, Any]) -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        for i, content in enumerate(contents):
            there = model_folder(folder / str(i))
            (there / "tokenizer_config.json").write_text(json.dumps(content))
            (there / "tokenization_evil.py").write_text(
                "raise SystemExit('code from the model folder ran')\n"
            )
            yield "tokenizer", there
            yield "model", there

    return build


def message(*fields: tuple[int, bytes]) -> bytes:
    """A protocol buffer message of length-delimited fields."""
    return b"".join(bytes([number << 3 | 2]) + _varint(len(data)) + data for number, data in fields)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def sentencepiece() -> bytes:
    pieces = ["<unk>", "▁a", "b", "c"]
    kinds = [2, 1, 1, 1]
    rows = [
        message((1, p.encode())) + b"\x15" + struct.pack("<f", -i) + b"\x18" + bytes([k])
        for i, (p, k) in enumerate(zip(pieces, kinds, strict=True))
    ]
    return message(*((1, row) for row in rows))


def other_formats(folder: Path) -> Iterator[Opens]:
    whole = sentencepiece()
    ranks = b"".join(base64.b64encode(bytes([i])) + f" {i}\n".encode() for i in range(256))
    files = {
        "cut.model": whole[:-3],
        "cut2.model": whole[:5],
        "endless.model": b"\x0a" + b"\xff" * 9 + b"\x01" + bytes(10),
        "empty.model": b"",
        "base64.tiktoken": ranks + b"!!!! 256\n",
        "rank.tiktoken": ranks + b"YWI= 0\n",
        "token.tiktoken": ranks + b"AA== 256\n",
        "number.tiktoken": ranks + b"YWI= many\n",
        "orphan.tiktoken": ranks + b"YWJj 256\n",
        "twice.txt": b"[UNK]\na\na\n",
        "none.txt": b"a\nb\n",
        "bytes.txt": b"[UNK]\n\xff\n",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
        yield "tokenizer_formats", folder / name


def ten_million(folder: Path) -> Iterator[Opens]:
    whole = json.dumps(tokenizer())
    before, after = whole.split('"merges": [')
    with open(folder / "tokenizer.json", "w") as handle:
        handle.write(before + '"merges": [')
        for _ in range(100):
            handle.write('"a b",' * 100_000)
        handle.write(after)
    yield "tokenizer", folder


def cyclic(folder: Path) -> Iterator[Opens]:
    """a b -> ab, ab a -> aba, aba ab -> abaab ..."""
    vocab: dict[str, int] = {"<s>": 0, "a": 1, "b": 2}
    merges, left, right = [], "a", "b"
    while len(left + right) < 3000:
        merges.append([left, right])
        vocab[left + right] = len(vocab)
        left, right = left + right, left
    spec = tokenizer()
    spec["model"].update(vocab=vocab, merges=merges)
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    yield "tokenizer", folder


def encoding(name: str) -> Build:
    """Texts instead of files, on a byte-level tokenizer and, where it is told apart, others."""

    def build(folder: Path) -> Iterator[Opens]:
        yield name, folder

    return build


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": {},
}
FAR = {**TEMPLATE, "special_tokens": {"[X]": {"id": "[X]", "ids": [2**31], "tokens": ["[X]"]}}}
CASES = [
    Case(id="TK-01", build=text("not json"), refused="is not JSON"),
    Case(id="TK-02", build=specs(model(merges=[["a", "zz"]])), refused="not in the vocabulary"),
    Case(id="TK-03", build=specs(vocabulary(b=1)), refused="share the id 1"),
    Case(id="TK-04", build=specs(model(vocab={"<s>": 0, "a": 1, "b": 2**31}, merges=[])), refused="gap over the limit"),
    Case(id="TK-05", build=specs(vocabulary(b=-1)), refused="-1 is not a token id"),
    Case(id="TK-06", build=specs(split("(a+)+$"), split("(a|a)+$"), split("(a|aa)+$")), refused="may never end"),
    Case(id="TK-07", build=specs(split("((((")), refused="is damaged"),
    Case(id="TK-08", build=specs(added(id=16, content="")), refused="is empty"),
    Case(id="TK-09", build=specs(added(id=0, content="<x>"), added(id=1, content="<x>")), refused="takes the id|given twice"),
    Case(id="TK-10", build=specs(added(id=16, content="the")), refused="ordinary word"),
    Case(id="TK-11", build=specs(stage("normalizer", replace("a", "a" * 1_000_000)), stage("normalizer", {"type": "Sequence", "normalizers": [replace("a", "aaaa")] * 10})), refused="inserts 1000000 characters|times longer"),
    Case(id="TK-12", build=deep, refused="nested more than"),
    Case(id="TK-13", build=sparse, refused="over the limit"),
    Case(id="TK-14", build=settings({"auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]}}, {"tokenizer_class": "EvilTokenizer"}), refused="auto_map|tokenizer_class"),
    Case(id="TK-15", build=other_formats, refused="SentencePiece|base64|given twice|same rank|no two tokens|WordPiece|UTF-8"),
    Case(id="TK-16", build=encoding("long_texts"), accepted="linear"),
    Case(id="TK-17", build=encoding("spelled_control"), accepted="as text"),
    Case(id="TK-18", build=encoding("any_bytes"), accepted="exact"),
    Case(id="TK-19", build=encoding("all_pairs"), accepted="65792 exact"),
    Case(id="TK-20", build=cyclic, accepted="ab"),
    Case(id="TK-20 10 million", build=ten_million, refused="more than 6,000,000 values|over the limit"),
    Case(id="TK-21", build=specs(stage("post_processor", TEMPLATE), stage("post_processor", FAR)), refused="undefined special token|an id that no token has"),
    Case(id="TK-22", build=lambda folder: iter([("model", model_folder(folder, vocab_size=8))]), refused="shape|do not belong together"),
]  # fmt: skip
