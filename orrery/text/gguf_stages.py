"""What the stages of a tokenizer mean in a GGUF file, which names them instead of describing them.

Only what can be said exactly is said: a stage without a name there is an error when a model is converted, not other ids
when it runs.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenizers import models

from orrery.kit.errors import OrreryError
from orrery.text.backend import build
from orrery.text.formats import tokenizer_spec
from orrery.text.gguf_patterns import PRE_TOKENIZERS
from orrery.text.patterns import GPT2, GPT4, SPACE, SPACED_DIGITS, SPACED_WORDS
from orrery.text.pieces import BYTE_PIECE
from orrery.text.spec import Spec, merge_pairs

_FALCON = PRE_TOKENIZERS["falcon"].patterns
_BLOOM = PRE_TOKENIZERS["bloom"].patterns[0]
# Other ways to write a known expression, found in published files.
_SAME = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2,
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+": GPT4,
    _BLOOM.replace("|.,", "|[.,").replace(")]+", "])]+"): _BLOOM,
}
_SQUEEZE = [(r"\A +| +\z", ""), (" {2,}", " ")]


class Spaces(NamedTuple):
    """How a SentencePiece-like tokenizer treats spaces: `prefix` and `squeeze` as in `sentencepiece_spec`."""

    prefix: bool
    squeeze: bool
    charsmap: str | None


def parts(stage: Spec | None, key: str) -> list[Spec]:
    """The members of a sequence stage (`key` names its list), or the stage alone."""
    if stage is None:
        return []
    return (
        [part for one in stage[key] for part in parts(one, key)] if stage["type"] == "Sequence" else [stage]
    )


def pre_name(spec: Spec) -> str:
    """The name of a byte-level tokenizer's pre-tokenizer.

    Raises:
        OrreryError: none has exactly its stages; says which stage.
    """
    normal = [part["type"] for part in parts(spec.get("normalizer"), "normalizers")]
    if normal not in ([], ["NFC"]):
        raise OrreryError(f"a GGUF file cannot hold the normaliser {normal}; use a tokenizer without it")
    patterns = _patterns(parts(spec.get("pre_tokenizer"), "pretokenizers"))
    fits = [
        name
        for name, pre in PRE_TOKENIZERS.items()
        if pre.patterns == patterns and pre.nfc == bool(normal) and not pre.raw
    ]
    if not fits:
        raise OrreryError(
            f"no named pre-tokenizer of GGUF cuts text as {list(patterns)}{' after NFC' if normal else ''} does; "
            "train with the pattern gpt2, gpt4, gpt4o or digits"
        )
    whole = bool(spec["model"].get("ignore_merges"))
    exact = next((name for name in fits if PRE_TOKENIZERS[name].ignore_merges == whole), None)
    if exact is None and not _all_reached(spec):
        raise OrreryError(
            f"the pre-tokenizer '{fits[0]}' {'does not take' if whole else 'takes'} words whole that are tokens, and "
            "this tokenizer has tokens that its merges never make; a GGUF file cannot say so"
        )
    return exact or fits[0]


def _patterns(stages: list[Spec]) -> tuple[str, ...]:
    """The expressions behind byte-level pre-tokenizers."""
    found: list[str] = []
    level = None
    for stage in stages:
        match stage:
            case {"type": "ByteLevel", "add_prefix_space": False} if level is None:
                level = len(found)
                found += [GPT2] if stage.get("use_regex", True) else []
            case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
                found.append(_SAME.get(regex, regex))
            case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": True}:
                found.append(_SAME.get(regex, regex))  # these leave nothing between their matches to remove
            case {"type": "Digits"}:
                found.append(r"\p{N}" if stage.get("individual_digits") else r"\p{N}+")
            case {"type": "Punctuation", "behavior": "Contiguous"}:
                found.append(_FALCON[0])
            case _:
                raise OrreryError(f"a GGUF file has no name for the pre-tokenizer {str(stage)[:120]}")
    if level is None:
        raise OrreryError(
            "this BPE tokenizer is neither byte-level nor SentencePiece's; a GGUF file cannot hold it"
        )
    if found == [_FALCON[0], GPT2, r"\p{N}+", _FALCON[2]]:
        return _FALCON  # its numbers are cut already by the second expression
    return tuple(found)


def _all_reached(spec: Spec) -> bool:
    """Whether the merges make each token of its own text, so that taking words whole changes nothing."""
    model = spec["model"]
    library = models.BPE(model["vocab"], merge_pairs(model))
    special = {token["content"] for token in spec.get("added_tokens") or []}
    return all(
        [token.id for token in library.tokenize(piece)] == [i]
        for piece, i in model["vocab"].items()
        if piece not in special
    )


def spaces_of(spec: Spec) -> Spaces:
    """How a SentencePiece-like tokenizer treats spaces.

    Raises:
        OrreryError: it does something else to text first, or cuts it so that a GGUF file cannot say it.
    """
    charsmap, squeeze, prefix, spaced = None, [], False, False
    for stage in parts(spec.get("normalizer"), "normalizers"):
        match stage:
            case {"type": "Precompiled", "precompiled_charsmap": str(charsmap)}:
                pass
            case {"type": "Replace", "pattern": {"Regex": regex}, "content": content}:
                squeeze.append((regex, content))
            case {"type": "Prepend", "prepend": "▁"}:
                prefix = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                spaced = True
            case _:
                raise OrreryError(
                    f"a GGUF file cannot hold the normaliser {str(stage)[:120]}; use a tokenizer without it"
                )
    for stage in parts(spec.get("pre_tokenizer"), "pretokenizers"):
        match stage:
            case {"type": "Metaspace", "replacement": "▁"} if not spaced:
                spaced, prefix = True, stage.get("prepend_scheme", "always") != "never"
                _need_uncut(spec, stage)
            case {"type": "WhitespaceSplit"} if not spaced:
                squeeze = [*_SQUEEZE]
            case {"type": "Split", "pattern": {"String": " "}} if spaced:
                pass  # no spaces are left
            case {"type": "Split", "pattern": {"Regex": "<(?=0x[0-9A-F]{2}>)"}}:
                pass  # keeps byte tokens out of text, as GGUF readers do
            case {"type": "Split", "pattern": {"Regex": regex}} if regex in (SPACED_WORDS, SPACED_DIGITS):
                _need_uncut(spec, stage)
            case _:
                raise OrreryError(f"a GGUF file has no name for the pre-tokenizer {str(stage)[:120]}")
    if not spaced or squeeze not in ([], _SQUEEZE, _SQUEEZE[1:]):
        raise OrreryError("a GGUF file cannot hold this tokenizer's treatment of spaces")
    return Spaces(prefix, bool(squeeze), charsmap)


def _need_uncut(spec: Spec, stage: Spec) -> None:
    """Refuse a pre-tokenizer that matters: a GGUF file holds none for these kinds, so no token may cross its cuts.

    The cuts depend on two neighbours alone, but for runs of spaces: so each token must stay whole, and hold no run.
    """
    if stage.get("split") is False:
        return
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    cutter = build(tokenizer_spec(empty, pre_tokenizer=stage), "this tokenizer").pre_tokenizer
    vocab = spec["model"]["vocab"]
    special = {token["content"] for token in spec.get("added_tokens") or []}
    for piece in (entry if isinstance(entry, str) else entry[0] for entry in vocab):
        if piece in special or BYTE_PIECE.fullmatch(piece):
            continue
        if SPACE * 2 in piece or len(cutter.pre_tokenize_str(piece)) > 1:
            raise OrreryError(
                f"this tokenizer cuts text into words first, which a GGUF file cannot say for its kind, and its token "
                f"{piece!r} crosses such a cut in some texts; train the kind 'bpe' to convert it"
            )
