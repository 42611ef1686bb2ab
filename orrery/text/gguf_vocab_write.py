"""A tokenizer as the `tokenizer.*` keys of a GGUF file, for a reader that gives equal ids: ours, and llama.cpp's.

    write_gguf("model.gguf", {**architecture, **metadata_of_tokenizer(tokenizer)}, tensors)

The kinds are those of `gguf_vocab.py`. What the format cannot say exactly is refused (`gguf_stages.py`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.text.gguf_keys import PREFIX, ROLES, TEMPLATE
from orrery.text.gguf_patterns import PRE_TOKENIZERS
from orrery.text.gguf_stages import parts, pre_name, spaces_of
from orrery.text.patterns import SPACE
from orrery.text.pieces import BYTE_PIECE, decoder_kinds
from orrery.text.scored_merges import merges_of_scores
from orrery.text.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER
from orrery.text.spec import Spec, merge_pairs
from orrery.text.tokenizer import Tokenizer
from orrery.text.wordpiece import PREFIX as INSIDE

Metadata = dict[str, Any]
_RAW = PRE_TOKENIZERS["gemma4"].patterns[0]


def metadata_of_tokenizer(
    tokenizer: Tokenizer, *, chat_template: str | Mapping[str, str] | None = None, rows: int | None = None
) -> Metadata:
    """The keys that describe a tokenizer.

    Args:
        chat_template: Jinja source, or several by name; None takes the one in the tokenizer's settings, if there is one.
        rows: of the model's embedding. Where it has more than there are tokens, fillers named `[PAD7]` are added.

    Raises:
        OrreryError: the format cannot hold this tokenizer so that its ids stay equal; says what stands in the way.
    """
    model = tokenizer.spec["model"]
    kind = model.get("type")
    keys: Metadata
    if kind == "WordPiece":
        keys = _bert(tokenizer.spec)
    elif kind == "Unigram":
        keys = _unigram(tokenizer)
    elif kind == "BPE" and "ByteLevel" in decoder_kinds(tokenizer.spec):
        merges = [f"{left} {right}" for left, right in merge_pairs(model)]
        keys = {"model": "gpt2", "pre": pre_name(tokenizer.spec), "merges": merges}
    elif kind == "BPE":
        keys = _sentencepiece(tokenizer)
    else:
        raise OrreryError(
            f"a GGUF file cannot hold a tokenizer of kind {kind}; it holds BPE, WordPiece and unigram ones"
        )
    names, types = _tokens(tokenizer, rows)
    if kind == "WordPiece":
        names = [_bert_name(name, type) for name, type in zip(names, types, strict=True)]
    if "scores" in keys:
        low = np.full(len(names) - len(keys["scores"]), -1e4)  # no merge makes a filler
        keys["scores"] = np.concatenate([keys["scores"], low]).astype(np.float32)
    keys |= {"tokens": names, "token_type": np.array(types, np.int32)} | _roles(tokenizer)
    if kind != "WordPiece":
        keys["add_bos_token"], keys["add_eos_token"] = tokenizer.adds
    return {PREFIX + key: value for key, value in keys.items()} | _templates(tokenizer, chat_template)


def _tokens(tokenizer: Tokenizer, rows: int | None) -> tuple[list[str], list[int]]:
    """Every row's token and type."""
    size = max(tokenizer.vocab_size, rows or 0)
    if rows is not None and rows < tokenizer.vocab_size:
        raise OrreryError(
            f"the model has {rows} rows for a tokenizer of {tokenizer.vocab_size} ids; these two do not belong together"
        )
    names, types = [f"[PAD{i}]" for i in range(size)], [UNUSED] * size
    fallback = tokenizer.spec["model"].get("byte_fallback")
    for name, i in tokenizer.vocabulary.items():
        filler = name == names[i]
        names[i] = name
        raw = fallback and BYTE_PIECE.fullmatch(name)
        types[i] = UNUSED if filler else BYTE if raw else NORMAL
    for token in tokenizer.spec.get("added_tokens") or []:
        spelled = (
            not token["special"] and SPACE in token["content"]
        )  # no text holds it before spaces are rewritten
        if not spelled and types[token["id"]] != UNUSED:
            types[token["id"]] = CONTROL if token["special"] else USER
    if tokenizer.unknown_id is not None:
        types[tokenizer.unknown_id] = UNKNOWN
    return names, types


def _roles(tokenizer: Tokenizer) -> Metadata:
    """The ids of special tokens that the settings name."""
    ids: Metadata = {}
    for role, key in ROLES.items():
        value = tokenizer.settings.get(f"{role}_token")
        name = value.get("content") if isinstance(value, dict) else value
        if name is not None and name in tokenizer:
            ids[key] = tokenizer.id(name)
    if tokenizer.unknown_id is not None:
        ids[ROLES["unk"]] = tokenizer.unknown_id
    return ids


def _templates(tokenizer: Tokenizer, given: str | Mapping[str, str] | None) -> Metadata:
    held = given if given is not None else tokenizer.settings.get("chat_template")
    if isinstance(held, str):
        return {TEMPLATE: held}
    if isinstance(held, Mapping):
        held = [{"name": name, "template": text} for name, text in held.items()]
    named = {str(entry["name"]): entry["template"] for entry in held or []}
    return {TEMPLATE if name == "default" else f"{TEMPLATE}.{name}": text for name, text in named.items()}


def _bert(spec: Spec) -> Metadata:
    """WordPiece with BERT's stages, the only ones the format knows."""
    stages = parts(spec.get("normalizer"), "normalizers") + parts(spec.get("pre_tokenizer"), "pretokenizers")
    normal = stages[0] if stages else {}
    usual = [stage["type"] for stage in stages] == ["BertNormalizer", "BertPreTokenizer"]
    usual = usual and normal.get("clean_text") and normal.get("handle_chinese_chars")
    if not usual or spec["model"].get("continuing_subword_prefix") != INSIDE:
        raise OrreryError(
            "a GGUF file holds WordPiece only with BERT's own normaliser and words; train with normalizer=['bert']"
        )
    accents = normal.get("strip_accents")
    lowercase = bool(normal.get("lowercase"))
    return {
        "model": "bert",
        "normalizer.lowercase": lowercase,
        "normalizer.strip_accents": lowercase if accents is None else accents,
    }


def _bert_name(name: str, type: int) -> str:
    if type in (CONTROL, UNKNOWN, UNUSED, USER) or (name[0] == "[" and name[-1] == "]" and len(name) > 2):
        return name
    return name.removeprefix(INSIDE) if name.startswith(INSIDE) and name != INSIDE else SPACE + name


def _unigram(tokenizer: Tokenizer) -> Metadata:
    spaces = spaces_of(tokenizer.spec)
    if tokenizer.spec["model"].get("byte_fallback") or not spaces.squeeze:
        raise OrreryError(
            "a GGUF file holds unigram tokenizers only as T5 has them, without byte fallback and with runs of spaces as one; "
            "train the kind 'bpe' to convert it"
        )
    scores = np.array([score for _, score in tokenizer.spec["model"]["vocab"]], np.float32)
    keys: Metadata = {
        "model": "t5",
        "scores": scores,
        "add_space_prefix": spaces.prefix,
        "remove_extra_whitespaces": spaces.squeeze,
    }
    if spaces.charsmap:
        keys["precompiled_charsmap"] = np.frombuffer(base64.b64decode(spaces.charsmap), np.uint8)
    return keys


def _sentencepiece(tokenizer: Tokenizer) -> Metadata:
    """BPE over characters: by scores, or with its merges where text is cut at line breaks (Gemma 4)."""
    spec = tokenizer.spec
    cutters = parts(spec.get("pre_tokenizer"), "pretokenizers")
    if [cutter.get("pattern") for cutter in cutters] == [{"Regex": _RAW}]:
        merges = [f"{left} {right}" for left, right in merge_pairs(spec["model"])]
        return {"model": "gemma4", "merges": merges, "scores": np.zeros(tokenizer.vocab_size)}
    spaces = spaces_of(spec)
    if spaces.charsmap or spaces.squeeze or not spec["model"].get("byte_fallback"):
        raise OrreryError(
            "a GGUF file holds BPE over characters only with byte fallback and unchanged text; train the kind 'bpe'"
        )
    return {
        "model": "llama",
        "pre": "default",
        "scores": _scores(tokenizer),
        "add_space_prefix": spaces.prefix,
    }


def _scores(tokenizer: Tokenizer) -> np.ndarray:
    """Scores that lead to the merges again: by id, as SentencePiece numbers its pieces, else by the merge list.

    Raises:
        OrreryError: no scores do, since pieces may be made in an order that depends on their parts.
    """
    merges = merge_pairs(tokenizer.spec["model"])
    given = {pair: rank for rank, pair in enumerate(merges)}
    names, types = _tokens(tokenizer, None)
    ids = np.array([i for i, type in enumerate(types) if type in (NORMAL, UNUSED)])
    pieces = [names[i] for i in ids]
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        first.setdefault(left + right, rank)
    by_merge = np.array([first.get(piece, len(merges) + i) for i, piece in enumerate(pieces)])
    for order in (ids - ids[0], by_merge):
        ranks = [
            given.get(pair, -1)
            for pair in merges_of_scores(pieces, -order.astype(np.float32), "this tokenizer")
        ]
        if -1 not in ranks and ranks == sorted(ranks):
            scores = np.full(tokenizer.vocab_size, -1e3)
            scores[np.array(types) == BYTE] = 0
            scores[ids] = -order
            return scores
    raise OrreryError(
        "this tokenizer merges pieces in an order that scores cannot express, and a GGUF file has only scores for its kind; "
        "train the kind 'bpe'"
    )
