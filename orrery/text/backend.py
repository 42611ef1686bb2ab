"""The tokenizers library, made safe: building its objects from a description, and its errors in plain words."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any, NoReturn

import tokenizers
from tokenizers import AddedToken, models

from orrery.kit.errors import OrreryError
from orrery.text.spec import Spec, merge_pairs

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_BPE_OPTIONS = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
)


def build(spec: Spec, where: str, *, model: Any = None) -> tokenizers.Tokenizer:
    """The library's tokenizer for a description; with `model`, the library's model where that is there already.

    Raises:
        OrreryError: the library refuses it.
    """
    try:
        backend = _assembled(spec, model) if spec["model"].get("type") == "BPE" else _parsed(spec)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a Rust panic is no Exception
        raise OrreryError(f"'{where}' is damaged: {' '.join(str(error).split())[:300]}") from error
    for token in spec.get("added_tokens") or []:
        if backend.token_to_id(token["content"]) != token["id"]:
            raise OrreryError(
                f"'{where}' is damaged: added token {token['content']!r} cannot have the id {token['id']}"
            )
    return backend


def _parsed(spec: Spec) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_str(json.dumps(spec, ensure_ascii=False))


def _assembled(spec: Spec, model: Any) -> tokenizers.Tokenizer:
    """A BPE tokenizer put together from its parts: a large vocabulary takes a third of the time that its JSON takes."""
    backend = _parsed(spec | {"added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}})
    options = {name: spec["model"][name] for name in _BPE_OPTIONS if spec["model"].get(name) is not None}
    if model is None:
        merges: list[Any] = spec["model"]["merges"]
        merges = (
            merge_pairs(spec["model"]) if merges and isinstance(merges[0], str) else [*map(tuple, merges)]
        )
        model = models.BPE(spec["model"]["vocab"], merges, **options)
    backend.model = model
    added = sorted(spec.get("added_tokens") or [], key=lambda token: token["id"])
    backend.add_tokens([AddedToken(token["content"], **{k: token[k] for k in _FLAGS}) for token in added])
    return backend


def build_plain(spec: Spec, where: str) -> tokenizers.Tokenizer:
    """The same tokenizer for text from outside: special tokens keep their ids but nothing can spell their names.

    The library can be told not to look for special tokens, but a unigram or WordPiece model would still find them in its
    vocabulary. So there they get a name that no text contains (a noncharacter and a random number). BPE reaches a token
    only by merges, so there a name is safe unless it is one merges make (which the tokenizer then refuses).
    """
    model = dict(spec["model"])
    added: list[Spec] = spec.get("added_tokens") or []
    if model.get("type") != "BPE" or model.get("ignore_merges"):
        secret = secrets.token_hex(8)
        merged = {"".join(pair) for pair in merge_pairs(model)}
        special = [t for t in added if t["special"] and t["content"] not in merged]
        names = {token["content"]: f" \uffff{secret}{token['id']}" for token in special}
        if isinstance(model["vocab"], list):
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        else:
            model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
        if model.get("unk_token") is not None:
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        added = [token | {"content": names.get(token["content"], token["content"])} for token in added]
    plain = build(spec | {"model": model, "added_tokens": added}, where)
    plain.encode_special_tokens = True
    plain.post_processor = None  # checked with the rest, but it would shorten offsets
    return plain


def unknown_token(spec: Spec) -> str | None:
    """The token that stands for what the vocabulary cannot spell."""
    model = spec["model"]
    if model.get("unk_id") is not None:
        return model["vocab"][model["unk_id"]][0]
    return model.get("unk_token")


def explain(text: object, error: BaseException) -> NoReturn:
    """Raise what a person should see for an error that came out of the library while it encoded `text`."""
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError | OrreryError):
        raise error
    if not isinstance(text, str):
        raise OrreryError(
            f"text must be a str, not {type(text).__name__}; decode bytes first or use encode_bytes"
        )
    if (at := surrogate(text)) is not None:
        raise OrreryError(
            f"the text has a lone surrogate (U+{ord(text[at]):04X}) at character {at}, which is half a character; "
            "read the file again with errors='replace'"
        )
    raise OrreryError(
        f"the tokenizer cannot encode this text: {' '.join(str(error).split())[:200]}"
    ) from error


def surrogate(text: str) -> int | None:
    """Where the first lone surrogate stands, if any."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
