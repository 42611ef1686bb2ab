"""Vocabularies inside GGUF files: the `tokenizer.*` keys read into a `Tokenizer`, with the template and the stop tokens.

    vocab = gguf_vocab(GgufFile.open("model.gguf").metadata)
    vocab.tokenizer.encode("Hello"), vocab.chat_template, vocab.stop_ids

`tokenizer.ggml.model` names the kind:

    gpt2      byte-level BPE: tokens, merges, and a named pre-tokenizer (`gguf_patterns.py`)
    llama     SentencePiece BPE: tokens with scores, single bytes as `<0x0A>` (`scored_merges.py`)
    gemma4    BPE over SentencePiece's alphabet, with merges
    bert      WordPiece; here `▁` marks the first piece of a word, where BERT's own files mark the others with `##`
    t5        unigram: tokens with log-probabilities

A file is input from outside: every fault is an error that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orrery.kit.errors import OrreryError, suggest
from orrery.text.formats import around, byte_level_spec, wordpiece_spec
from orrery.text.gguf_keys import KINDS, PREFIX, Fields, role_ids
from orrery.text.gguf_patterns import PreTokenizer, pre_tokenizer
from orrery.text.sentencepiece import CONTROL, UNKNOWN, UNUSED, USER, columns_spec
from orrery.text.spec import Spec, added_token
from orrery.text.tokenizer import Tokenizer

WHERE = "the vocabulary of this GGUF file"
_ENDS = """
    <|eot_id|> <|im_end|> <|end|> <|return|> <|call|> <|flush|> <|calls|> <end_of_turn> <|endoftext|> <|eom_id|> <EOT> _<EOT>
    [EOT] [EOS] <|end_of_text|> <end_of_utterance> <eos> </s> <turn|> <|tool_response> [e~[ <｜end▁of▁sentence｜>
    <|fim_pad|> <fim-pad> <fim_pad> <|fim_repo|> <|repo_name|> <fim-repo> <reponame> <|file_sep|>
"""
_FILLS = """
    <|fim_prefix|> <fim-prefix> <fim_prefix> <｜fim▁begin｜> <|code_prefix|>
    <|fim_suffix|> <fim-suffix> <fim_suffix> <｜fim▁hole｜> <|code_suffix|>
    <|fim_middle|> <fim-middle> <fim_middle> <｜fim▁end｜> <|code_middle|>
"""
END_NAMES = frozenset(_ENDS.split())
"""Tokens that end a turn or a text, by the names that models give them."""
FILL_NAMES = frozenset(_FILLS.split())
"""Tokens around text to fill in. Like the ends, they are control tokens whatever the file calls them."""
_AS_TEXT = {"</s>", "<eos>"}  # where these are no control tokens they are text, as `</s>` in HTML


@dataclass(frozen=True)
class GgufVocab:
    """What a GGUF file says about text.

    Attributes:
        tokenizer: gives the ids that the model was trained on.
        chat_template: the default Jinja source, unchecked; None in base models.
        templates: further ones by name.
        stop_ids: tokens that end generation, ascending.
        add_bos, add_eos: whether a text begins with BOS and ends with EOS.
    """

    tokenizer: Tokenizer
    chat_template: str | None = None
    templates: dict[str, str] = field(default_factory=dict)
    stop_ids: tuple[int, ...] = ()
    add_bos: bool = False
    add_eos: bool = False


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a GGUF file, from its key-value part (arrays of strings as lists, of numbers as numpy arrays).

    Raises:
        OrreryError: a key is missing, of the wrong type or length, or contradicts another.
    """
    return gguf_vocab(metadata).tokenizer


def gguf_vocab(metadata: Mapping[str, Any]) -> GgufVocab:
    """Everything that the `tokenizer.*` keys say. Raises as `tokenizer_from_gguf`."""
    fields = Fields(metadata)
    kind = fields.text("model")
    if kind not in KINDS:
        near = suggest(kind[:64], KINDS)
        raise OrreryError(
            f"{PREFIX}model is {kind[:64]!r}, which is none of the kinds read: {', '.join(KINDS)}.{near}"
        )
    names = fields.tokens()
    types = fields.types(names)
    roles = role_ids(fields, kind, names)
    pre = _pre_tokenizer(fields, kind)
    merges = fields.merges(frozenset(names)) if kind in ("gpt2", "gemma4") else []
    _settle_types(kind, names, types, roles, {left + right for left, right in merges})
    if kind == "bert":
        names = _bert_names(names, types)
    spec = _spec(fields, kind, pre, names, types, merges)
    bos, eos = _adds(fields, kind, pre, roles)
    front, back = ("cls", "sep") if kind == "bert" else (bos and "bos", eos and "eos")
    front, back = ([names[roles[role]]] if role in roles else [] for role in (front, back))
    if front or back:
        spec["post_processor"] = around(front, back, {names[i]: i for i in roles.values()})
    template, templates = fields.templates()
    settings = {f"{role}_token": names[i] for role, i in roles.items() if role not in ("eot", "eom")}
    if template is not None:
        settings["chat_template"] = template
    return GgufVocab(
        tokenizer=Tokenizer(spec, settings, where=WHERE),
        chat_template=template,
        templates=templates,
        stop_ids=_stop_ids(names, types, roles),
        add_bos=bos,
        add_eos=eos,
    )


def _pre_tokenizer(fields: Fields, kind: str) -> PreTokenizer:
    """The named one; only BPE has a choice."""
    if kind not in ("gpt2", "gemma4"):
        return PreTokenizer(())
    return pre_tokenizer(fields.text("pre", "default") if kind == "gpt2" else kind, PREFIX + "pre")


def _settle_types(
    kind: str, names: list[str], types: np.ndarray, roles: Mapping[str, int], made: set[str]
) -> None:
    """Mend, in place, the types that converters are known to get wrong.

    Rows that only fill the embedding up (`[PAD151646]`) are no text. Whatever begins, ends or fills is a control token,
    unless it is ordinary text too: made by merges, a word, or a single character.
    """
    for i in np.flatnonzero(np.isin(types, (UNKNOWN, USER, UNUSED))).tolist():
        if names[i].startswith("[PAD") and names[i] == f"[PAD{i}]":
            types[i] = CONTROL if kind == "t5" else UNUSED  # a unigram model would find its name in text
    meant = (END_NAMES | FILL_NAMES) - _AS_TEXT
    ends = {i for i, name in enumerate(names) if name in meant}
    for i in ends | {roles[role] for role in ("bos", "eos", "eot", "eom") if role in roles}:
        if names[i] not in made and len(names[i]) > 1 and not names[i].isalpha() and types[i] != UNKNOWN:
            types[i] = CONTROL
    if kind != "gpt2" and "unk" in roles:
        types[roles["unk"]] = UNKNOWN


def _bert_names(names: list[str], types: np.ndarray) -> list[str]:
    """WordPiece's own names: `▁word` is `word`, `ing` is `##ing`, `[CLS]` stays. Files may also hold them as they are."""
    if not any(name.startswith("▁") for name in names):
        return names
    kept = np.isin(types, (CONTROL, UNKNOWN, USER, UNUSED)).tolist()
    for i, name in enumerate(names):
        kept[i] = kept[i] or (name[0] == "[" and name[-1] == "]" and len(name) > 2)
    inside = [not keep and not name.startswith("▁") for name, keep in zip(names, kept, strict=True)]
    own = [
        "##" + name if inner else name.removeprefix("▁") for name, inner in zip(names, inside, strict=True)
    ]
    if "" in own or len(set(own)) < len(own):
        raise OrreryError(
            f"{PREFIX}tokens holds two pieces that are one, or an empty one, for WordPiece; convert the model again"
        )
    return own


def _spec(
    fields: Fields,
    kind: str,
    pre: PreTokenizer,
    names: list[str],
    types: np.ndarray,
    merges: list[tuple[str, str]],
) -> Spec:
    """The description, without the post-processor."""
    special = np.isin(types, (CONTROL, UNKNOWN))
    ids = np.flatnonzero(special | (types == USER)).tolist()
    added = [added_token(names[i], i, special=bool(special[i])) for i in ids]
    if kind == "llama" and fields.is_phi3:  # its special tokens take the spaces behind them in
        keep = ("<unk>", "<s>", "<|endoftext|>")
        added = [token | {"rstrip": token["content"] not in keep} for token in added]
    if kind == "bert":
        lowercase = fields.flag("normalizer.lowercase", True)
        unknown = next((names[i] for i in np.flatnonzero(types == UNKNOWN).tolist()), "[UNK]")
        spec = wordpiece_spec(_numbered(names), lowercase=lowercase, special=[], unknown=unknown)
        spec["normalizer"]["strip_accents"] = fields.flag("normalizer.strip_accents", lowercase)
    elif kind == "gpt2" and not pre.raw:
        forbidden = {names[i] for i in np.flatnonzero(special).tolist()}
        kept = [pair for pair in merges if pair[0] + pair[1] not in forbidden]
        spec = byte_level_spec(_numbered(names), kept, pattern=pre.patterns)
        spec["model"] |= {"ignore_merges": pre.ignore_merges}
        spec["normalizer"] = {"type": "NFC"} if pre.nfc else None
    else:
        scores = np.zeros(len(names)) if pre.raw else fields.scores(len(names))
        spec = columns_spec(
            names,
            scores,
            types,
            bpe=kind != "t5",
            merges=merges if pre.raw else None,
            pattern=pre.patterns[0] if pre.raw else None,
            prefix=fields.flag("add_space_prefix", kind == "llama"),
            squeeze=fields.flag("remove_extra_whitespaces", False),
            charsmap=fields.charsmap(),
        )
    return spec | {"added_tokens": added}


def _numbered(names: list[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _adds(fields: Fields, kind: str, pre: PreTokenizer, roles: Mapping[str, int]) -> tuple[bool, bool]:
    """Whether BOS and EOS go around a text: what the file says, else the custom of its kind.

    Raises:
        OrreryError: the file asks for a token that it does not name.
    """
    adds = []
    for role, usual in (("bos", kind == "llama" or pre.add_bos), ("eos", kind == "t5")):
        asked = fields.flag(f"add_{role}_token", usual and role in roles)
        if asked and role not in roles and kind != "bert":
            raise OrreryError(
                f"{PREFIX}add_{role}_token asks for a token, but {PREFIX}{role}_token_id is missing"
            )
        adds.append(asked and role in roles)
    return adds[0], adds[1]


def _stop_ids(names: list[str], types: np.ndarray, roles: Mapping[str, int]) -> tuple[int, ...]:
    """EOS, end of turn, end of message, and every control token whose name says that it ends something."""
    stops = {roles[role] for role in ("eos", "eot", "eom") if role in roles}
    named = {names[i]: i for i in np.flatnonzero(types == CONTROL).tolist() if names[i] in END_NAMES}
    if {"<|return|>", "<|call|>"} <= named.keys() or {"<|calls|>", "<|flush|>"} <= named.keys():
        named.pop("<|end|>", None)  # in these formats it ends one message of several in a turn
    return tuple(sorted(stops | set(named.values())))
