"""Reading `tokenizer.json` with suspicion: every fault is found here, with the file named, before anything uses it.

The tokenizers library accepts duplicate ids, an id of 2^31, an empty added token, and a normaliser that turns one
letter into a million; two of its refusals end the process. What a model folder says is input, so it is checked first.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from typing import Any, cast

from orrery.kit import json as json_file
from orrery.kit.errors import OrreryError
from orrery.kit.untrusted import inside
from orrery.text.scored_merges import DerivedMerges
from orrery.text.stages import check_stages

Spec = dict[str, Any]

MAX_BYTES = 128 << 20  # the largest published vocabularies take about 35 MB
MAX_DEPTH = 32
MAX_VALUES = 6_000_000  # tokens, merges and their parts; the largest published have about two million
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
MODELS = ("BPE", "WordPiece", "Unigram", "WordLevel")
# Classes of transformers whose work a tokenizer.json describes (with "Tokenizer" or "TokenizerFast" after the name).
_CLASSES = set(
    re.findall(
        r"\w+",
        """Albert Bart Barthez Bert BigBird Blenderbot Bloom CLIP Camembert CodeGen CodeLlama Cohere Cohere2 Deberta DebertaV2
    DistilBert Electra Esm FNet Funnel GPT2 GPTNeoX GPTNeoXJapanese Gemma Gemma2 Gemma3 Herbert LED LayoutLMv2 LayoutLMv3
    Llama Longformer Luke Lxmert MBart MBart50 MPNet MT5 MobileBert Mvp Nllb OpenAIGPT Pegasus PLBart PreTrained Qwen2
    Qwen3 Qwen3_5 RemBert Roberta RoFormer SeamlessM4T Siglip2 Splinter SqueezeBert T5 Whisper XGLM XLMRoberta
    XLNet""",
    )
)
_BACKENDS = ("TokenizersBackend", "SentencePieceBackend")


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        OrreryError: missing, unreadable, too large, not UTF-8, not JSON, nested too deep, or with a key given twice.
    """
    return json_file.read_json(
        path, max_bytes=MAX_BYTES, max_depth=4 * MAX_DEPTH, max_values=MAX_VALUES, what="a tokenizer"
    )


def read_spec(path: Path) -> Spec:
    """The checked content of a `tokenizer.json`."""
    spec = read_json(inside(path.parent, path.name))
    check(spec, str(path))
    return spec


def read_settings(path: Path) -> Spec:
    """The content of a `tokenizer_config.json`; empty when there is none.

    Raises:
        OrreryError: it asks for code from the model folder, or names something that is not a tokenizer class.
    """
    if not path.is_symlink() and not path.exists():
        return {}
    settings = read_json(inside(path.parent, path.name))
    if not isinstance(settings, dict):
        raise OrreryError(f"'{path}' must hold a JSON object")
    if settings.get("auto_map"):
        raise OrreryError(
            f"'{path}' asks to run code from the model folder (auto_map), which is never done; remove it"
        )
    for role, token in settings.items():
        named = token.get("content") if isinstance(token, dict) else token
        if re.fullmatch(r"(bos|eos|unk|pad|sep|cls|mask)_token", role) and not isinstance(named, str | None):
            raise OrreryError(f"'{path}': {role} is {str(token)[:80]!r}, no name of a token")
    name = settings.get("tokenizer_class")
    if name not in (None, *_BACKENDS) and re.sub(r"Tokenizer(Fast)?$", "", str(name)) not in _CLASSES:
        raise OrreryError(
            f"'{path}': tokenizer_class {name!r} is no tokenizer that tokenizer.json can describe"
        )
    return settings


def check(spec: Any, where: str) -> None:
    """Refuse a tokenizer description that is inconsistent or would hang or exhaust the machine.

    Raises:
        OrreryError: names the place and the rule.
    """
    _need(isinstance(spec, dict) and isinstance(spec.get("model"), dict), where, "'model' is missing")
    model = spec["model"]
    rest = {name: value for name, value in model.items() if name not in ("vocab", "merges")}  # these are flat
    _need(_depth(spec | {"model": rest}) <= MAX_DEPTH, where, f"it is nested more than {MAX_DEPTH} deep")
    kind = str(model.get("type") or ("BPE" if "merges" in model else "Unigram"))
    _need(kind in MODELS, where, f"model type {kind!r} is not one of {', '.join(MODELS)}")
    vocabulary = _vocabulary(model, kind, where)
    _check_ids(vocabulary, where)
    if kind == "BPE":
        _check_merges(model, vocabulary, where)
    _check_added(spec.get("added_tokens") or [], vocabulary, where)
    added = spec.get("added_tokens") or []
    check_stages(spec, {*vocabulary.values(), *(token["id"] for token in added)}, where)


def _need(held: bool, where: str, fault: str) -> None:
    if not held:
        raise OrreryError(f"'{where}' is damaged: {fault}")


def _vocabulary(model: Spec, kind: str, where: str) -> dict[str, int]:
    vocab = model.get("vocab")
    if kind == "Unigram":
        _need(
            isinstance(vocab, list)
            and all(
                isinstance(e, list) and len(e) == 2 and isinstance(e[0], str) and _number(e[1]) for e in vocab
            ),
            where,
            "a unigram vocabulary is a list of [piece, log-probability] pairs",
        )
        assert vocab is not None
        pieces = {piece: i for i, (piece, _) in enumerate(vocab)}
        _need(len(pieces) == len(vocab), where, "a piece stands twice in the vocabulary")
        unknown = model.get("unk_id")
        _need(
            unknown is None or (type(unknown) is int and unknown in range(len(vocab))),
            where,
            f"unk_id {unknown!r} is not in the vocabulary",
        )
        return pieces
    _need(isinstance(vocab, dict), where, "'model.vocab' must map tokens to ids")
    assert vocab is not None
    return vocab


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _check_ids(vocabulary: dict[str, int], where: str) -> None:
    ids = list(vocabulary.values())
    if not {*map(type, ids)} <= {int} or min(ids, default=0) < 0:
        bad = [i for i in ids if type(i) is not int or i < 0]
        _need(not bad, where, f"{str(bad[:1])[1:-1][:80]} is not a token id")
    if len(set(ids)) != len(ids):
        seen: dict[int, str] = {}
        for token, i in vocabulary.items():
            _need(i not in seen, where, f"tokens {seen.get(i)!r} and {token!r} share the id {i}")
            seen[i] = token
    _check_range(max(ids, default=0), len(ids), where)


def _check_range(largest: int, count: int, where: str) -> None:
    """Ids far beyond the vocabulary would make every table that large."""
    _need(largest < 2 * count + 65536, where, f"id {largest} leaves a gap over the limit in {count} tokens")


def added_token(name: str, id: int, *, special: bool = True) -> Spec:
    """One entry of `added_tokens`."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": name, **plain, "special": special}


def token_ids(spec: Spec) -> dict[str, int]:
    """Every token of the model's vocabulary and every added one with its id, in id order."""
    vocab = spec["model"]["vocab"]
    ids = {piece: i for i, (piece, _) in enumerate(vocab)} if isinstance(vocab, list) else vocab
    added = {token["content"]: token["id"] for token in spec.get("added_tokens") or []}
    if not added.items() <= ids.items():
        ids = ids | added
    order = list(ids.values())
    return ids if order == sorted(order) else dict(sorted(ids.items(), key=lambda entry: entry[1]))


def merge_pairs(model: Spec, where: str = "tokenizer.json") -> list[tuple[str, str]]:
    """The merges of a BPE model as pairs, from the old form ("a b") or the new (["a", "b"]).

    Raises:
        OrreryError: one is neither.
    """
    merges = model.get("merges") or []
    old = str in {*map(type, merges)}
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges] if old else merges
    if not _are_pairs(pairs):
        for merge, pair in zip(merges, pairs, strict=True):
            if not _are_pairs([pair]):
                raise OrreryError(f"'{where}' is damaged: merge {str(merge)[:80]!r} is not a pair of tokens")
    return cast(list[tuple[str, str]], [*map(tuple, pairs)])


def _are_pairs(pairs: list[Any]) -> bool:
    """Whether each is two strings, none empty. Sets and maps are quick; there may be half a million."""
    if not ({*map(type, pairs)} <= {list, tuple} and {*map(len, pairs)} <= {2}):
        return False
    return {*map(type, chain.from_iterable(pairs))} <= {str} and "" not in {*chain.from_iterable(pairs)}


def _check_merges(model: Spec, vocabulary: dict[str, int], where: str) -> None:
    if isinstance(model.get("merges"), DerivedMerges):
        return
    _need(isinstance(model.get("merges"), list), where, "'model.merges' must be a list")
    pairs = merge_pairs(model, where)
    prefix = model.get("continuing_subword_prefix")
    lefts, rights = [left for left, _ in pairs], [right for _, right in pairs]
    tails = [right.removeprefix(prefix) for right in rights] if prefix else rights
    for tokens in (lefts, rights, [*map(str.__add__, lefts, tails)]):
        if not {*tokens} <= vocabulary.keys():
            lacking = next(i for i, token in enumerate(tokens) if token not in vocabulary)
            raise OrreryError(
                f"'{where}' is damaged: merge {lacking} {pairs[lacking]} needs a token that is not in the vocabulary"
            )


def _check_added(added: Any, vocabulary: dict[str, int], where: str) -> None:
    _need(
        isinstance(added, list) and all(isinstance(token, dict) for token in added),
        where,
        "'added_tokens' must be a list",
    )
    wanted = {token.get("id") for token in added if type(token.get("id")) is int}
    owner = {i: token for token, i in vocabulary.items() if i in wanted}
    known = len(owner)
    for token in added:
        content, i = token.get("content"), token.get("id")
        _need(isinstance(content, str) and content != "", where, f"the added token with id {i} is empty")
        _need(type(i) is int and i >= 0, where, f"added token {content!r} has the id {i!r}")
        _need(
            all(type(token.get(flag)) is bool for flag in FLAGS),
            where,
            f"added token {content!r} must say true or false of {', '.join(FLAGS)}",
        )
        _need(
            owner.setdefault(i, content) == content,
            where,
            f"added token {content!r} takes the id {i} of {owner[i]!r}",
        )
        _need(vocabulary.get(content, i) == i, where, f"added token {content!r} has two ids")
        _need(
            not (token.get("special") and content.isalpha()),
            where,
            f"the special token {content!r} is an ordinary word, so every text with it would hold a control token",
        )
    contents = [token["content"] for token in added]
    _need(len(set(contents)) == len(contents), where, "an added token is given twice")
    _check_range(max(owner, default=0), len(vocabulary) + len(owner) - known, where)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    return depth
