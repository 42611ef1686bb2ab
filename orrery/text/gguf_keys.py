"""The `tokenizer.*` keys of a GGUF file, read with suspicion: each value has the type and length the format asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.text.sentencepiece import BYTE, NORMAL

PREFIX = "tokenizer.ggml."
TEMPLATE = "tokenizer.chat_template"
# Where each kind keeps its special tokens by custom, for files that do not say: id and name.
KINDS: dict[str, dict[str, tuple[int, str]]] = {
    "gpt2": {},
    "llama": {"bos": (1, "<s>"), "eos": (2, "</s>"), "unk": (0, "<unk>")},
    "gemma4": {},
    "bert": {
        "cls": (101, "[CLS]"),
        "unk": (100, "[UNK]"),
        "sep": (102, "[SEP]"),
        "pad": (0, "[PAD]"),
        "mask": (103, "[MASK]"),
    },
    "t5": {"eos": (1, "</s>"), "unk": (2, "<unk>"), "pad": (0, "<pad>")},
}
ROLES = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",  # so spelled in the format
    "pad": "padding_token_id",
    "cls": "cls_token_id",
    "mask": "mask_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
}
MAX_TOKENS = 1 << 21
_AGAIN = "convert the model again, or get an undamaged file"


class Fields:
    """Typed access to the vocabulary's keys; `key` is what follows `tokenizer.ggml.`."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata

    @property
    def is_phi3(self) -> bool:
        """Whether this is Phi-3: the one thing about its tokens that the format cannot say goes by its name."""
        names = (self.metadata.get("general.architecture"), self.metadata.get("general.name"))
        return any(word in str(name).lower() for name in names for word in ("phi3", "phi-3"))

    def text(self, key: str, default: str | None = None) -> str:
        """A string.

        Raises:
            OrreryError: another type, or missing where there is no default.
        """
        value = self.metadata.get(PREFIX + key, default)
        if value is None:
            raise OrreryError(f"{PREFIX}{key} is missing: this GGUF file has no vocabulary; {_AGAIN}")
        if not isinstance(value, str):
            raise _wrong(PREFIX + key, "a string", value)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """A bool."""
        value = self.metadata.get(PREFIX + key, default)
        if not isinstance(value, bool | np.bool_):
            raise _wrong(PREFIX + key, "a bool", value)
        return bool(value)

    def tokens(self) -> list[str]:
        """The tokens in id order, all different; those left empty get a name that says so."""
        tokens = self._strings("tokens")
        if not 0 < len(tokens) <= MAX_TOKENS:
            raise OrreryError(f"{PREFIX}tokens holds {len(tokens)} tokens, not 1 to {MAX_TOKENS}; {_AGAIN}")
        tokens = [token or f"[EMPTY_{i}]" for i, token in enumerate(tokens)]
        if len(set(tokens)) < len(tokens):
            seen: dict[str, int] = {}
            for i, token in enumerate(tokens):
                if (first := seen.setdefault(token, i)) != i:
                    raise OrreryError(
                        f"{PREFIX}tokens: ids {first} and {i} are both {token[:64]!r}; {_AGAIN}"
                    )
        return tokens

    def types(self, tokens: list[str]) -> np.ndarray:
        """int64, one a token (`sentencepiece.NORMAL` ...); all normal where the file has none."""
        if PREFIX + "token_type" not in self.metadata:
            return np.full(len(tokens), NORMAL, np.int64)
        types = self._numbers("token_type", "iu", len(tokens)).astype(np.int64)
        return np.where((types >= NORMAL) & (types <= BYTE), types, NORMAL)

    def scores(self, count: int) -> np.ndarray:
        """float32, one a token, all finite."""
        scores = self._numbers("scores", "iuf", count).astype(np.float32)
        if not np.isfinite(scores).all():
            at = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise OrreryError(f"{PREFIX}scores: token {at} has the score {scores[at]}; {_AGAIN}")
        return scores

    def merges(self, tokens: Collection[str]) -> list[tuple[str, str]]:
        """Pairs of tokens that make a token."""
        lines = self._strings("merges")
        if len(lines) > 16 * len(tokens) + 65536:
            raise OrreryError(f"{PREFIX}merges has {len(lines)} entries for {len(tokens)} tokens; {_AGAIN}")
        cuts = [line.find(" ", 1) for line in lines]
        pairs = [(line[:at], line[at + 1 :]) for line, at in zip(lines, cuts, strict=True)]
        for i, (left, right) in enumerate(pairs):
            if cuts[i] < 0 or left not in tokens or right not in tokens or left + right not in tokens:
                raise OrreryError(
                    f"{PREFIX}merges: entry {i}, {lines[i][:64]!r}, is not two tokens that make a third; {_AGAIN}"
                )
        return pairs

    def charsmap(self) -> bytes:
        """SentencePiece's compiled normalisation; empty where there is none."""
        key = "precompiled_charsmap"
        if PREFIX + key not in self.metadata:
            return b""
        data = self._numbers(key, "iu", None).astype(np.uint8).tobytes()
        if data and not 4 < 4 + int.from_bytes(data[:4], "little") < len(data):
            raise OrreryError(f"{PREFIX}{key} says that it is longer than its {len(data)} bytes; {_AGAIN}")
        return data

    def templates(self) -> tuple[str | None, dict[str, str]]:
        """The default chat template, and others by name."""
        named = {}
        for key in self.metadata:
            if key == TEMPLATE or (key.startswith(TEMPLATE + ".")):
                if not isinstance(value := self.metadata[key], str):
                    raise _wrong(key, "a string", value)
                named[key.removeprefix(TEMPLATE).removeprefix(".")] = value
        return named.pop("", None), named

    def id(self, key: str, count: int) -> int | None:
        """A token's id, below `count`."""
        value = self.metadata.get(PREFIX + key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise _wrong(PREFIX + key, "a whole number", value)
        if not 0 <= value < count:
            raise OrreryError(f"{PREFIX}{key} is {value}, but the vocabulary has {count} tokens; {_AGAIN}")
        return int(value)

    def _strings(self, key: str) -> list[str]:
        value = self.metadata.get(PREFIX + key)
        if value is None:
            raise OrreryError(f"{PREFIX}{key} is missing: this GGUF file has no whole vocabulary; {_AGAIN}")
        if not isinstance(value, list) or not {*map(type, value)} <= {str}:
            raise _wrong(PREFIX + key, "a list of strings", value)
        return value

    def _numbers(self, key: str, kinds: str, count: int | None) -> np.ndarray:
        value = self.metadata.get(PREFIX + key)
        if value is None:
            raise OrreryError(f"{PREFIX}{key} is missing: this GGUF file has no whole vocabulary; {_AGAIN}")
        numbers = np.asarray(value) if isinstance(value, list | np.ndarray) else np.empty(0, object)
        if numbers.ndim != 1 or numbers.dtype.kind not in kinds:
            raise _wrong(
                PREFIX + key, "a list of numbers" if "f" in kinds else "a list of whole numbers", value
            )
        if count is not None and len(numbers) != count:
            raise OrreryError(f"{PREFIX}{key} has {len(numbers)} entries for {count} tokens; {_AGAIN}")
        return numbers


def role_ids(fields: Fields, kind: str, names: list[str]) -> dict[str, int]:
    """The id of each special role that the file names, or that its kind has by custom."""
    roles = {}
    for role, key in ROLES.items():
        usual, name = KINDS[kind].get(role, (0, ""))
        if (i := fields.id(key, len(names))) is not None:
            roles[role] = i
        elif names[usual : usual + 1] == [name]:
            roles[role] = usual
    return roles


def _wrong(key: str, wanted: str, value: Any) -> OrreryError:
    shown = f"a list of {len(value)}" if isinstance(value, list | np.ndarray) else repr(value)[:64]
    return OrreryError(f"{key} must be {wanted}, not {shown}; {_AGAIN}")
