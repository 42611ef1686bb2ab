"""Folders from before tokenizer.json, and single vocabulary files: which file it is, and what its settings add.

    tokenizer.model, spiece.model    SentencePiece, or tiktoken ranks under the same name (Llama 3)
    vocab.json and merges.txt        byte-level BPE (encoder.json and vocab.bpe in the first GPT-2)
    x.tiktoken                       tiktoken ranks
    vocab.txt                        WordPiece
    x.gguf                           the vocabulary inside a model

tokenizer_config.json beside them names the special tokens and what else the tokenizer's class stands for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.gguf import GgufFile
from orrery.kit.untrusted import head_of
from orrery.text.formats import around, bert_vocab, gpt2_files, tiktoken_file
from orrery.text.gguf_patterns import PRE_TOKENIZERS
from orrery.text.gguf_vocab import tokenizer_from_gguf
from orrery.text.sentencepiece import sentencepiece_file
from orrery.text.spec import Spec, added_token, read_json, read_settings
from orrery.text.tokenizer import SETTINGS, SPEC, Tokenizer


class _Class(NamedTuple):
    """What a tokenizer class of transformers implies: a named pre-tokenizer (BPE), and tokens around a text."""

    pre: str = "gpt-2"
    front: str | None = None
    back: str | None = None


_CLASSES = {
    "Llama": _Class("llama-bpe", front="bos_token"),
    "CodeLlama": _Class(front="bos_token"),
    "Gemma": _Class(front="bos_token"),
    "T5": _Class(back="eos_token"),
    "Bert": _Class(front="cls_token", back="sep_token"),
    "DistilBert": _Class(front="cls_token", back="sep_token"),
    "Electra": _Class(front="cls_token", back="sep_token"),
    "MPNet": _Class(front="cls_token", back="sep_token"),
    "Roberta": _Class(front="cls_token", back="sep_token"),
    "GPTNeoX": _Class("olmo"),
    "Qwen2": _Class("qwen2"),
    "Qwen": _Class("qwen2"),
    "Cohere": _Class("command-r", front="bos_token"),
}
_RANKS = {"cl100k": "gpt4", "o200k": "gpt4o", "p50k": "gpt2", "r50k": "gpt2", "qwen": "digits"}
_REPLACED = ("tokenizer_class", "added_tokens_decoder")  # what they say is in the description now
_FLAGS = ("lstrip", "rstrip", "single_word")
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def open_vocabulary(path: Path) -> Tokenizer:
    """The tokenizer of a folder that has no tokenizer.json, or of one file.

    Raises:
        OrreryError: nothing that is a vocabulary, or a damaged one (named, with the fault).
    """
    if not path.exists():
        near = suggest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise OrreryError(f"no file at '{path}'.{near}")
    if path.suffix == ".gguf":
        with GgufFile.open(path) as file:
            return tokenizer_from_gguf(file.metadata)
    if not path.is_dir():
        return _settled(_file(path, _Class(), {}), path.parent, {}, _Class())
    settings = read_settings(path / SETTINGS)
    name = re.sub(r"Tokenizer(Fast)?$", "", str(settings.get("tokenizer_class") or ""))
    kind = _CLASSES.get(name, _Class())
    for vocab, merges in _PAIRS:
        if (path / vocab).exists() and (path / merges).exists():
            pre = PRE_TOKENIZERS[kind.pre]
            tokenizer = gpt2_files(path / vocab, path / merges, pattern=pre.patterns)
            tokenizer = _but(tokenizer, {"normalizer": {"type": "NFC"} if pre.nfc else None})
            return _settled(tokenizer, path, settings, kind)
    known = ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"]
    files = [path / name for name in known if (path / name).exists()] or sorted(path.glob("*.tiktoken"))
    if not files:
        models = sorted(path.glob("*.gguf"))
        if len(models) == 1:
            return open_vocabulary(models[0])
        raise OrreryError(
            f"'{path}' has no {SPEC} nor another vocabulary; give the folder of a tokenizer or of a model"
        )
    return _settled(_file(files[0], kind, settings), path, settings, kind)


def _file(path: Path, kind: _Class, settings: Spec) -> Tokenizer:
    """One vocabulary file, by its name and its first bytes."""
    if path.name == "sentencepiece.bpe.model":
        raise OrreryError(
            f"'{path}' numbers its pieces otherwise than its models do (fairseq); save the tokenizer as {SPEC} with transformers"
        )
    if path.suffix == ".txt":
        return bert_vocab(path, lowercase=settings.get("do_lower_case", True) is not False)
    ranks = path.suffix == ".tiktoken" or (
        path.suffix == ".model" and re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", head_of(path))
    )
    if ranks:
        near = next((pattern for start, pattern in _RANKS.items() if path.name.startswith(start)), None)
        special = {token: i for i, (token, _) in _added(path.parent, settings).items()}
        return tiktoken_file(path, pattern=near or PRE_TOKENIZERS[kind.pre].patterns[0], special=special)
    if path.suffix == ".model":
        return sentencepiece_file(path)
    raise OrreryError(
        f"'{path}' is no vocabulary that is read; give {SPEC}, a .model, .tiktoken or .gguf file, or a folder"
    )


def _settled(tokenizer: Tokenizer, folder: Path, settings: Spec, kind: _Class) -> Tokenizer:
    """With the folder's added tokens, its names for special ones, and what its class puts around a text."""
    if not settings:
        return tokenizer
    added = {token["id"]: token for token in tokenizer.spec["added_tokens"]}
    for i, (content, flags) in _added(folder, settings).items():
        token = added_token(content, i, special=bool(flags.get("special", True)))
        added[i] = token | {flag: bool(flags.get(flag)) for flag in _FLAGS}
    kept = {key: value for key, value in settings.items() if value is not None and key not in _REPLACED}
    names = tokenizer.settings | kept
    ids = {token["content"]: i for i, token in added.items()}

    def end(usual: str | None, asked: str) -> list[str]:
        value = names.get(usual or asked.removeprefix("add_"))
        name = value.get("content") if isinstance(value, dict) else value
        return [name] if name in ids and settings.get(asked, usual is not None) else []

    front, back = end(kind.front, "add_bos_token"), end(kind.back, "add_eos_token")
    changes: Spec = {"added_tokens": [added[i] for i in sorted(added)]}
    if front or back:
        changes["post_processor"] = around(front, back, ids)
    return _but(tokenizer, changes, names)


def _added(folder: Path, settings: Spec) -> dict[int, tuple[str, Spec]]:
    """Added tokens by id with their flags: from the settings, or from added_tokens.json of older folders.

    Raises:
        OrreryError: an entry of another shape.
    """
    where = f"'{folder}': the added tokens"
    entries = settings.get("added_tokens_decoder")
    if entries is None and (path := folder / "added_tokens.json").exists():
        entries = read_json(path)
        if isinstance(entries, dict):
            entries = {str(i): {"content": token} for token, i in entries.items()}
    if not isinstance(entries, dict | None):
        raise OrreryError(f"{where} must be an object of ids and tokens")
    found = {}
    for i, entry in (entries or {}).items():
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(content, str) or not re.fullmatch(r"[0-9]{1,9}", i):
            raise OrreryError(f"{where} hold {i[:40]!r}, which is no id with a token's content and flags")
        found[int(i)] = (content, entry)
    return found


def _but(tokenizer: Tokenizer, changes: Spec, settings: Spec | None = None) -> Tokenizer:
    return Tokenizer(tokenizer.spec | changes, tokenizer.settings if settings is None else settings)
