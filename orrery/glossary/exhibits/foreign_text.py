"""Exhibits of other people's text formats: SentencePiece vocabularies, chat templates, and models that turn texts into vectors."""

from __future__ import annotations

import dataclasses
import struct
import tempfile
from pathlib import Path

import numpy as np

from orrery.glossary.exhibit import Exhibit, Grid
from orrery.glossary.exhibits import _prepared
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, Init
from orrery.model.encoder import Encoder, EncoderConfig
from orrery.model.mlp import Mlp
from orrery.model.positions import Learned
from orrery.serve.embedder import Embedder
from orrery.serve.sentence_folder import Recipe
from orrery.text.chat import ChatFormat
from orrery.text.sentencepiece import BPE, BYTE, CONTROL, NORMAL, UNIGRAM, UNKNOWN, sentencepiece_file

PIECES = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
PIECES += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
WORDS = [
    ("▁", -3.0),
    ("▁th", -3.2),
    ("▁the", -3.1),
    ("▁h", -4.0),
    ("▁hat", -6.5),
    ("at", -3.6),
    ("he", -3.4),
    ("hat", -5.0),
    ("th", -4.2),
]
PIECES += [(text, score, NORMAL) for text, score in [*WORDS, *((letter, -7.0) for letter in "aceht")]]


def _message(*entries: tuple[int, bytes | int | float]) -> bytes:
    """A protocol buffer message: whole numbers as varints, others as 32 bits, bytes with their length."""
    out = b""
    for number, value in entries:
        if isinstance(value, float):
            out += _varint(number << 3 | 5) + struct.pack("<f", value)
        elif isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return out


def _varint(value: int) -> bytes:
    low = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return low + _varint(value >> 7) if value > 0x7F else low


def _sentencepiece(kind: int) -> bytes:
    """A whole `.model` file over the pieces above."""
    pieces = [(1, _message((1, text.encode()), (2, score), (3, type))) for text, score, type in PIECES]
    return _message(
        *pieces,
        (2, _message((3, kind), (40, 0), (41, 1), (42, 2))),
        (3, _message((1, b"identity"), (3, 1), (4, 0))),
    )


def sentencepiece_files() -> Exhibit:
    """Two `.model` files with the same pieces and scores, one unigram, one BPE: how they cut a text, spaces and strange letters included."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, kind in (("unigram", UNIGRAM), ("BPE", BPE)):
            path = Path(temporary) / f"{name}.model"
            path.write_bytes(_sentencepiece(kind))
            tokenizer = sentencepiece_file(path)
            for text in ("the hat", "that", " the  hat", "hé"):
                ids = tokenizer.encode(text)
                pieces = " ".join(tokenizer.name(i) for i in ids)
                rows.append((name, repr(text), pieces, len(ids), tokenizer.decode(ids) == text))
    return Exhibit(
        title=f"{len(PIECES)} pieces, 256 of them single bytes; files written here byte by byte",
        columns=("model", "text", "pieces", "tokens", "comes back"),
        rows=rows,
        reads="A space is a letter, drawn as a low line, so nothing is cut beforehand and joining the pieces gives the text. Unigram takes the pieces "
        "whose scores sum highest, BPE joins neighbours, best piece first; the same vocabulary gives other tokens. What no piece covers becomes bytes.",
    )  # fmt: skip


CHATML = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def chat_template_rendered() -> Exhibit:
    """A foreign template renders a conversation to ids with a role for each; a user types a control token; and hostile templates are refused."""
    tokenizer = _prepared.tokenizer()
    chat = ChatFormat.from_template(CHATML, tokenizer)
    talk = [
        {"role": "user", "content": "Say <|end|> twice."},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Why?"},
    ]
    rendered = chat.render(talk, generate=True)
    rows = [
        (tokenizer.decode([id]), id, role.name.lower(), mask, id in tokenizer.special.values())
        for id, role, mask in zip(rendered.ids, rendered.roles, rendered.assistant_mask, strict=True)
    ]
    refused = []
    for source in (
        "{{ ''.__class__.__mro__ }}",
        "{% for i in range(100000000) %}x{% endfor %}",
        "{{ 'x' * 10**9 }}",
    ):
        try:
            ChatFormat.from_template(source, tokenizer).text(talk)
        except OrreryError:
            refused.append(source)
    return Exhibit(
        title=f"Append-only: {chat.append_only}; ends of a turn: {[tokenizer.name(i) for i in chat.stop_ids]}",
        columns=("token", "id", "role", "trained on", "special"),
        rows=[(repr(text), *rest) for text, *rest in rows],
        reads="The template writes the marks; what a person typed stays text, even if it reads like one. Only what the assistant says, its end "
        f"included, is trained on. Of three templates that reach for Python or for the whole memory, {len(refused)} were refused.",
    )  # fmt: skip


def texts_to_vectors() -> Exhibit:
    """An encoder with a pooling: cosines of texts under three poolings, and a text's vector alone and in company. Nothing is trained."""
    tokenizer = _prepared.tokenizer()
    stack = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=64, n_layers=2, n_heads=4, feed_forward=Mlp(d_ff=128, gated=False, activation="gelu"),
        norm="layernorm", placement="post", position=Learned(max_positions=128), max_positions=128, init=Init(std=0.1),
    )  # fmt: skip
    model = Encoder(EncoderConfig(stack=stack)).eval()
    texts = ["return the value", "return the value of it", "import os, sys", "it of value the return"]
    rows, grids = [], []
    for pooling in ("mean", "cls", "max"):
        embedder = Embedder(model, tokenizer, Recipe(model=Path(), pooling=(pooling,)))
        vectors = embedder.encode(texts)
        alone = np.concatenate([embedder.encode([text]) for text in texts])
        cosines = vectors @ vectors.T
        rows.append(
            (
                pooling,
                embedder.width,
                *(float(c) for c in cosines[0, 1:]),
                float(np.abs(vectors - alone).max()),
            )
        )
        if pooling == "mean":
            grids.append(
                Grid(title="cosines, mean", values=np.clip(cosines, 0, 1).tolist(), rows=texts, columns=["1", "2", "3", "4"])
            )  # fmt: skip
    longer = Embedder(model, tokenizer, dataclasses.replace(Recipe(model=Path()), pooling=("cls", "mean")))
    rows.append(("cls and mean side by side", longer.width, "", "", "", ""))
    return Exhibit(
        title="An untrained encoder of two layers, 64 wide; cosines with the first text",
        columns=("pooling", "numbers", "a longer one", "another", "its words reversed", "difference alone"),
        rows=rows,
        grids=grids,
        reads="Before any training a mean of states already tells which words a text has, and hardly their order. That near vectors mean near meanings "
        "is what contrastive training adds. Texts are packed without padding, so company changes nothing.",
    )  # fmt: skip
