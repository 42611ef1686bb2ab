"""Reading `tokenizer.json` with suspicion: every fault is found here, with the file named, before anything uses it.

The tokenizers library accepts duplicate ids, an id of 2^31, an empty added token, and a normaliser that turns one
letter into a million; two of its refusals end the process. What a model folder says is input, so it is checked first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError, suggest
from orrery.text.patterns import nested_repeat

Spec = dict[str, Any]

MAX_BYTES = 256 << 20  # the largest published vocabularies take about 35 MB
MAX_DEPTH = 32
MAX_GROWTH = 8  # a normaliser may make a text at most this many times longer
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
        OrreryError: missing, unreadable, too large, not UTF-8, not JSON, or nested too deep.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise OrreryError(
                f"'{path}' has {size >> 20} MB; files over {MAX_BYTES >> 20} MB are not read as a tokenizer"
            )
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        near = suggest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        raise OrreryError(f"no file at '{path}'.{near}") from None
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise OrreryError(f"'{path}' is not JSON ({error}); copy the file again from where it came") from None
    except RecursionError:
        raise OrreryError(f"'{path}' is nested too deep to be a tokenizer") from None


def read_spec(path: Path) -> Spec:
    """The checked content of a `tokenizer.json`."""
    spec = read_json(path)
    check(spec, str(path))
    return spec


def read_settings(path: Path) -> Spec:
    """The content of a `tokenizer_config.json`; empty when there is none.

    Raises:
        OrreryError: it asks for code from the model folder, or names something that is not a tokenizer class.
    """
    if not path.exists():
        return {}
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise OrreryError(f"'{path}' must hold a JSON object")
    if settings.get("auto_map"):
        raise OrreryError(
            f"'{path}' asks to run code from the model folder (auto_map), which is never done; remove it"
        )
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
    _need(_depth(spec) <= MAX_DEPTH, where, f"it is nested more than {MAX_DEPTH} deep")
    model = spec["model"]
    kind = str(model.get("type") or ("BPE" if "merges" in model else "Unigram"))
    _need(kind in MODELS, where, f"model type {kind!r} is not one of {', '.join(MODELS)}")
    vocabulary = _vocabulary(model, kind, where)
    _check_ids(vocabulary, where)
    if kind == "BPE":
        _check_merges(model, vocabulary, where)
    _check_added(spec.get("added_tokens") or [], vocabulary, where)
    _check_stages(spec, where)


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
            unknown is None or unknown in range(len(vocab)),
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
    bad = next((i for i in ids if type(i) is not int or i < 0), None)
    _need(bad is None, where, f"{bad!r} is not a token id")
    if len(set(ids)) != len(ids):
        seen: dict[int, str] = {}
        for token, i in vocabulary.items():
            _need(i not in seen, where, f"tokens {seen.get(i)!r} and {token!r} share the id {i}")
            seen[i] = token
    limit = 2 * len(ids) + 65536  # ids far beyond the vocabulary would make every table that large
    _need(
        max(ids, default=0) < limit,
        where,
        f"id {max(ids, default=0)} leaves a gap over the limit in {len(ids)} tokens",
    )


def added_token(name: str, id: int, *, special: bool = True) -> Spec:
    """One entry of `added_tokens`."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": name, **plain, "special": special}


def token_ids(spec: Spec) -> dict[str, int]:
    """Every token of the model's vocabulary and every added one with its id, in id order."""
    vocab = spec["model"]["vocab"]
    ids = {piece: i for i, (piece, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    ids |= {token["content"]: token["id"] for token in spec.get("added_tokens") or []}
    return dict(sorted(ids.items(), key=lambda entry: entry[1]))


def merge_pairs(model: Spec, where: str = "tokenizer.json") -> list[tuple[str, str]]:
    """The merges of a BPE model as pairs, from the old form ("a b") or the new (["a", "b"]).

    Raises:
        OrreryError: one is neither.
    """
    pairs = []
    for i, merge in enumerate(model.get("merges") or []):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
            raise OrreryError(f"'{where}' is damaged: merge {i} ({merge!r}) is not a pair of tokens")
        pairs.append((parts[0], parts[1]))
    return pairs


def _check_merges(model: Spec, vocabulary: dict[str, int], where: str) -> None:
    _need(isinstance(model.get("merges"), list), where, "'model.merges' must be a list")
    pairs = merge_pairs(model, where)
    prefix = model.get("continuing_subword_prefix") or ""
    for tokens in (
        (left for left, _ in pairs),
        (right for _, right in pairs),
        (left + right.removeprefix(prefix) for left, right in pairs),
    ):
        lacking = next((i for i, token in enumerate(tokens) if token not in vocabulary), None)
        if lacking is not None:
            raise OrreryError(
                f"'{where}' is damaged: merge {lacking} {pairs[lacking]} needs a token that is not in the vocabulary"
            )


def _check_added(added: Any, vocabulary: dict[str, int], where: str) -> None:
    _need(
        isinstance(added, list) and all(isinstance(token, dict) for token in added),
        where,
        "'added_tokens' must be a list",
    )
    owner = {i: token for token, i in vocabulary.items()}
    for token in added:
        content, i = token.get("content"), token.get("id")
        _need(isinstance(content, str) and content != "", where, f"the added token with id {i} is empty")
        _need(type(i) is int and i >= 0, where, f"added token {content!r} has the id {i!r}")
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
    _check_ids({token: i for i, token in owner.items()}, where)


def _check_stages(spec: Spec, where: str) -> None:
    """Normaliser growth, regular expressions, and the special tokens a template names."""
    for node in _nodes([spec.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")]):
        pattern = node.get("pattern")
        text = (pattern.get("Regex") or pattern.get("String")) if isinstance(pattern, dict) else None
        if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
            _need(
                not nested_repeat(pattern["Regex"]),
                where,
                f"the pattern {pattern['Regex'][:80]!r} repeats a group that repeats itself and may never end",
            )
        added = node.get("content") if node.get("type") == "Replace" else node.get("prepend")
        if isinstance(added, str):
            limit = MAX_GROWTH * max(len(text or ""), 1)
            _need(
                len(added) <= limit,
                where,
                f"a normaliser inserts {len(added)} characters at once (limit {limit})",
            )
    for node in _nodes(spec.get("post_processor")):
        if node.get("type") == "TemplateProcessing":
            known = node.get("special_tokens") or {}
            for item in (node.get("single") or []) + (node.get("pair") or []):
                name = item.get("SpecialToken", {}).get("id") if isinstance(item, dict) else None
                _need(
                    name is None or name in known,
                    where,
                    f"its template names the undefined special token {name!r}",
                )


def _nodes(value: Any) -> Iterator[Spec]:
    """Every JSON object inside `value`."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)


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
