"""Vocabularies as other projects publish them, opened as a `Tokenizer`.

    gpt2_files("encoder.json", "vocab.bpe")        OpenAI's GPT-2 files, or vocab.json and merges.txt in that form
    tiktoken_file("cl100k_base.tiktoken")          one base64 token and its rank a line
    bert_vocab("vocab.txt")                        one WordPiece token a line
    sentencepiece.sentencepiece_file("x.model")    SentencePiece, unigram and BPE (a file of its own)

The `*_spec` functions build the description from parts, for readers of other containers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from orrery.kit.errors import OrreryError
from orrery.text.patterns import regex_of
from orrery.text.pieces import chars_of
from orrery.text.spec import MAX_BYTES, Spec, added_token, read_json
from orrery.text.tokenizer import Tokenizer

Merge = tuple[str, str]


def tokenizer_spec(model: Spec, *, added: Sequence[Spec] = (), **stages: Spec | None) -> Spec:
    empty: Spec = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    ordered = sorted(added, key=lambda token: token["id"])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": ordered,
        **empty,
        **stages,
        "model": model,
    }


def split(regex: str) -> Spec:
    """A pre-tokenizer: what the expression matches, and what lies between, each stand alone."""
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def around(front: Sequence[str], back: Sequence[str], ids: Mapping[str, int]) -> Spec:
    """The post-processor that puts special tokens in front and at the end of a text, or of each of a pair."""

    def one(sequence: str, type_id: int) -> list[Spec]:
        before, after = (
            [{"SpecialToken": {"id": name, "type_id": type_id}} for name in side] for side in (front, back)
        )
        return [*before, {"Sequence": {"id": sequence, "type_id": type_id}}, *after]

    return {
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": one("A", 0) + one("B", 1),
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in (*front, *back)
        },
    }


def byte_level_spec(
    vocab: dict[str, int],
    merges: Sequence[Merge],
    *,
    pattern: str | Sequence[str] = "gpt2",
    special: Sequence[str] = (),
) -> Spec:
    """Byte-level BPE; `vocab` and `merges` in GPT-2's characters (`Ġthe`), `pattern` a name of `PATTERNS` or a regex, or
    several, each cutting what those before it left."""
    splits = [split(regex_of(one)) for one in ([pattern] if isinstance(pattern, str) else pattern)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return tokenizer_spec(
        {"type": "BPE", "vocab": vocab, "merges": [list(merge) for merge in merges]},
        added=[added_token(name, vocab[name]) for name in special],
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*splits, level]},
        decoder=level | {"use_regex": True},
    )


def wordpiece_spec(
    vocab: dict[str, int], *, lowercase: bool, special: Sequence[str], unknown: str = "[UNK]"
) -> Spec:
    """BERT's stages around a WordPiece vocabulary (`##` inside words)."""
    bert = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase}
    return tokenizer_spec(
        {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
        added=[added_token(name, vocab[name]) for name in special],
        normalizer={"type": "BertNormalizer", **bert},
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )  # fmt: skip


def gpt2_files(vocab: str | Path, merges: str | Path, *, pattern: str | Sequence[str] = "gpt2") -> Tokenizer:
    """GPT-2's encoder.json and vocab.bpe. Its one special token, `<|endoftext|>`, is both BOS and EOS.

    Raises:
        OrreryError: a file is missing or damaged.
    """
    ids = read_json(Path(vocab))
    lines = _lines(Path(merges))
    pairs: list[Merge] = []
    for number, line in enumerate(lines):
        if number == 0 and line.startswith("#version"):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise OrreryError(f"'{merges}' line {number + 1} is not a pair of tokens: {line[:80]!r}")
        pairs.append((parts[0], parts[1]))
    if not isinstance(ids, dict):
        raise OrreryError(f"'{vocab}' must map tokens to ids")
    end = [name for name in ("<|endoftext|>",) if name in ids]
    settings = {role: end[0] for role in ("bos_token", "eos_token", "unk_token") if end}
    return Tokenizer(byte_level_spec(ids, pairs, pattern=pattern, special=end), settings, where=str(vocab))


def tiktoken_file(
    path: str | Path,
    *,
    pattern: str = "gpt4",
    special: dict[str, int] | None = None,
    bos: str | None = None,
    eos: str | None = None,
) -> Tokenizer:
    """A tiktoken rank file (GPT-4, Llama 3, Qwen). The file holds no merges: each token's is found by encoding its bytes
    with the tokens ranked before it, which leaves the two parts.

    Raises:
        OrreryError: the file is missing or damaged, or has a token that no two tokens make.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(_lines(Path(path)), 1):
        try:
            token, rank = line.split(" ")
            data, value = base64.b64decode(token, validate=True), int(rank)
        except (ValueError, binascii.Error):
            raise OrreryError(
                f"'{path}' line {number} is not a base64 token and its rank: {line[:80]!r}"
            ) from None
        if data in ranks or not data:
            raise OrreryError(f"'{path}' line {number}: the token {data!r} is empty or given twice")
        ranks[data] = value
    if len(set(ranks.values())) < len(ranks):
        raise OrreryError(f"'{path}': two tokens have the same rank")
    names = {chars_of(data): rank for data, rank in ranks.items()}
    merges = [_parts(data, ranks, path) for data in sorted(ranks, key=ranks.__getitem__) if len(data) > 1]
    vocab = names | (special or {})
    settings = {role: name for role, name in (("bos_token", bos), ("eos_token", eos)) if name}
    return Tokenizer(
        byte_level_spec(vocab, merges, pattern=pattern, special=list(special or {})),
        settings,
        where=str(path),
    )


def _parts(data: bytes, ranks: dict[bytes, int], path: str | Path) -> Merge:
    """The two tokens, both ranked earlier, whose merge makes this one."""
    limit = ranks[data]
    parts = [data[i : i + 1] for i in range(len(data))]
    while len(parts) > 2:
        known = [(ranks.get(a + b, limit), i) for i, (a, b) in enumerate(pairwise(parts))]
        rank, i = min(known)
        if rank >= limit:
            raise OrreryError(f"'{path}': no two tokens make the token {data!r}; the file is damaged")
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return chars_of(parts[0]), chars_of(parts[1])


def bert_vocab(path: str | Path, *, lowercase: bool = True) -> Tokenizer:
    """BERT's vocab.txt: a token a line, its id the line number. Special tokens are those in square brackets.

    Raises:
        OrreryError: missing, damaged, or without [UNK].
    """
    tokens = _lines(Path(path))
    vocab = {token: i for i, token in enumerate(tokens)}
    if len(vocab) < len(tokens) or "[UNK]" not in vocab:
        raise OrreryError(f"'{path}' is no WordPiece vocabulary: a token is given twice, or [UNK] is missing")
    special = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocab]
    settings = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    settings = {role: name for role, name in settings.items() if name in vocab}
    return Tokenizer(wordpiece_spec(vocab, lowercase=lowercase, special=special), settings, where=str(path))


def _lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file; only "\\n" ends a line, since tokens hold the other line breaks."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OrreryError(f"'{path}' is over {MAX_BYTES >> 20} MB; that is no vocabulary")
        lines = path.read_bytes().decode("utf-8").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise OrreryError(f"'{path}' is not UTF-8 text ({error.reason} at byte {error.start})") from None
    return lines[:-1] if lines[-1] == "" else lines
