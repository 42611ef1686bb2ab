"""Text to ids and back: one class over the tokenizers library, for every kind of tokenizer.

A tokenizer runs text through stages: normalise, pre-tokenise (cut into words), model (words to ids), post-process. On
disk it is the pair of files every Hugging Face tool reads, `tokenizer.json` and `tokenizer_config.json`.

Two rules hold here that hold in few places. Text from outside never becomes a control token: `special="never"` is the
default, and the stages that could match a special token do not know its name. And nothing is padded with a token id:
batches are lists of arrays with lengths (`padding.py` serves tools that want rectangles).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import tokenizers

from orrery.kit.config import digest
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_folder, atomic_write
from orrery.text import fast
from orrery.text.backend import build, build_plain, explain, surrogate, unknown_token
from orrery.text.batch import encode_texts
from orrery.text.config import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from orrery.text.detokenizer import Detokenizer
from orrery.text.pieces import Pieces, decoder_kinds, piece_tables
from orrery.text.spec import Spec, added_token, check, read_settings, read_spec, token_ids

Special = Literal["never", "allow"]
SPEC, SETTINGS = "tokenizer.json", "tokenizer_config.json"
_SMALL = (
    1 << 18
)  # characters in batches so far; below, setting up the quick engine would take longer than it saves


@dataclass(frozen=True)
class Piece:
    """One token of a text: its id, its name in the vocabulary, its bytes, and the characters it covers."""

    id: int
    name: str
    bytes: bytes
    start: int
    end: int


class Tokenizer:
    """Use `Tokenizer.load(path)` or `train_tokenizer(texts, config)`. Immutable; safe to use from many threads."""

    def __init__(self, spec: Spec, settings: Spec | None = None, *, where: str = SPEC) -> None:
        """`spec` is the content of a tokenizer.json, `settings` of a tokenizer_config.json.

        Raises:
            OrreryError: the description is damaged; names the place and the rule.
        """
        check(spec, where)
        self.spec: Spec = spec | {"truncation": None, "padding": None}
        self.settings: Spec = dict(settings or {})
        added = self.spec.get("added_tokens") or []
        self.special: dict[str, int] = {
            token["content"]: token["id"] for token in added if token.get("special")
        }
        self._special_ids = frozenset(self.special.values())
        self._ids = token_ids(self.spec)
        self.vocab_size: int = max(self._ids.values(), default=-1) + 1
        self.bos_id: int | None = self._named("bos_token", where)
        self.eos_id: int | None = self._named("eos_token", where)
        self.unknown_id: int | None = self._ids.get(unknown_token(spec) or "")
        self._batched = 0
        self._plain = build_plain(self.spec, where)
        self._refuse_leaks(where)

    # --- files

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Open a tokenizer.json or its folder, or a vocabulary of another form (`vocabulary_files.py`; .gguf too).

        Raises:
            OrreryError: nothing there, or a damaged file (named, with the fault).
        """
        path = Path(path)
        file = path / SPEC if path.is_dir() else path
        if file.suffix != ".json" or (path.is_dir() and not file.exists()):
            from orrery.text.vocabulary_files import open_vocabulary  # which makes tokenizers itself

            return open_vocabulary(path)
        return cls(read_spec(file), read_settings(file.parent / SETTINGS), where=str(file))

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json; transformers' AutoTokenizer opens the folder."""
        folder = Path(folder)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
        } | self.settings
        files = {
            SPEC: json.dumps(self.spec, ensure_ascii=False, indent=1) + "\n",
            SETTINGS: json.dumps(settings, ensure_ascii=False, indent=1) + "\n",
        }
        if folder.is_dir():
            for name, text in files.items():
                atomic_write(folder / name, text)
            return
        with atomic_folder(folder) as temporary:
            for name, text in files.items():
                atomic_write(temporary / name, text)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides ids: equal fingerprints, equal ids on every text."""
        return digest({"spec": self.spec, "bos": self.bos_id, "eos": self.eos_id}, plain=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self.spec, self.settings)

    # --- text to ids

    def encode(
        self, text: str, *, special: Special = "never", bos: bool = False, eos: bool = False
    ) -> list[int]:
        """Ids of a text.

        Args:
            special: "never" reads the names of special tokens as the plain text they are; "allow" turns them into ids
                (for text that you wrote yourself).
            bos: put the beginning-of-sequence id in front (once).
            eos: put the end-of-sequence id at the end (once).

        Raises:
            OrreryError: not a str, a lone surrogate, or a BOS/EOS id where the text already has one.
        """
        return self.wrap(self._run(text, special).ids, bos=bos, eos=eos)

    def encode_batch(
        self, texts: Iterable[str], *, special: Special = "never", threads: int | None = None
    ) -> list[np.ndarray]:
        """Ids of many texts, one uint32 array each, equal to `encode` of each.

        `threads` defaults to the cores this process may use. Byte-level BPE runs on tiktoken's engine where the ids
        are certain to be equal (`fast.py`).
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise OrreryError(f"text must be a str, not {type(text).__name__}; decode bytes first")
        self._batched += sum(map(len, texts))
        engine = self._fast if special == "never" and self._batched >= _SMALL else None
        return encode_texts(texts, self._library(special), engine, threads)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, UTF-8 or not; `decode_bytes` gives the same bytes back.

        Raises:
            OrreryError: the bytes are not UTF-8 and the tokenizer has no token for each byte.
        """
        text = data.decode("utf-8", errors="surrogateescape")
        if surrogate(text) is None:
            return self.encode(text)
        if "ByteLevel" not in decoder_kinds(self.spec):
            return self._raw(data)  # a stretch of text in the middle would get a space in front
        ids: list[int] = []
        for escaped, group in groupby(text, key=lambda char: "\udc80" <= char <= "\udcff"):
            stretch = "".join(group)
            ids += (
                self._raw(stretch.encode("utf-8", errors="surrogateescape"))
                if escaped
                else self.encode(stretch)
            )
        return ids

    def wrap(self, ids: Sequence[int], *, bos: bool = False, eos: bool = False) -> list[int]:
        """Add BOS in front and EOS at the end.

        Raises:
            OrreryError: the tokenizer has no such token, or the ids already have it there.
        """
        out = list(ids)
        if bos:
            if self.bos_id is None:
                raise OrreryError("this tokenizer has no BOS token; train or load one that names bos_token")
            if out[:1] == [self.bos_id]:
                raise OrreryError("the ids already begin with BOS; add it once (bos=False here)")
            out = [self.bos_id, *out]
        if eos:
            if self.eos_id is None:
                raise OrreryError("this tokenizer has no EOS token; train or load one that names eos_token")
            if out[-1:] == [self.eos_id]:
                raise OrreryError("the ids already end with EOS; add it once (eos=False here)")
            out = [*out, self.eos_id]
        return out

    def encode_fim(self, prefix: str, suffix: str, *, order: Literal["psm", "spm"] = "psm") -> list[int]:
        """The prompt for filling the gap between `prefix` and `suffix`; the model goes on with the middle.

        psm: <prefix> prefix <suffix> suffix <middle>. spm: <prefix> <suffix> suffix <middle> prefix, which lets the
        middle follow its prefix directly. Source: Bavarian et al. 2022, arXiv:2207.14255, section 3 and appendix D.
        """
        names = (FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX)
        missing = [name for name in names if name not in self.special]
        if missing:
            raise OrreryError(
                f"this tokenizer has no {', '.join(missing)}; add them with add_tokens(..., special=True)"
            )
        pre, mid, suf = (self.special[name] for name in names)
        before, after = self.encode(prefix), self.encode(suffix)
        return [pre, *before, suf, *after, mid] if order == "psm" else [pre, suf, *after, mid, *before]

    def offsets(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, end) for every token: the characters of `text` it covers. Parts of one character share it."""
        encoding = self._run(text, "never")
        return [(i, start, end) for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)]

    def pieces(self, text: str) -> list[Piece]:
        """The tokens of a text, each with its name, bytes and place."""
        return [
            Piece(i, self.name(i), self.token_bytes(i), start, end) for i, start, end in self.offsets(text)
        ]

    # --- ids to text

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """The text of ids, equal to what a `detokenizer` streams; bytes that are not UTF-8 become U+FFFD.

        Args:
            special: False leaves special tokens out.

        Raises:
            OrreryError: an id that no token has.
        """
        return self.decode_bytes(ids, special=special).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int], *, special: bool = True) -> bytes:
        """The bytes of ids, nothing replaced: the inverse of `encode_bytes`."""
        whole = _ints(ids)
        if whole:
            self._known(min(whole))
            self._known(max(whole))
        kept = whole if special else [i for i in whole if i not in self._special_ids]
        spelled = [self._pieces.rest[i] for i in kept]
        if None in spelled:
            self._known(kept[spelled.index(None)])
        if kept:
            spelled[0] = self._pieces.first[kept[0]]
        return b"".join(spelled)  # type: ignore[arg-type]

    def detokenizer(self, *, special: bool = True) -> Detokenizer:
        """A new stream: `.push(id) -> str`, `.flush() -> str`; the pieces joined equal `decode` of the whole."""
        return Detokenizer(self._pieces, skip=() if special else self._special_ids)

    def token_bytes(self, id: int) -> bytes:
        """What one token spells inside a text (with the leading space its kind of tokenizer gives it)."""
        return self._pieces.rest[self._known(id)] or b""

    # --- vocabulary

    def name(self, id: int) -> str:
        """The token's name in the vocabulary (`Ġthe`, `##ing`, `<|user|>`)."""
        return self._names[self._known(id)] or ""

    def id(self, name: str) -> int:
        """The id of a token by its name.

        Raises:
            OrreryError: no such token.
        """
        if name not in self._ids:
            raise OrreryError(f"no token is named '{name}'.{suggest(name, self.special)}")
        return self._ids[name]

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token's name and id, in id order."""
        return MappingProxyType(self._ids)

    def __len__(self) -> int:
        """How many tokens there are (`vocab_size` counts the rows a model needs: highest id + 1)."""
        return len(self._ids)

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    @property
    def adds(self) -> tuple[bool, bool]:
        """Whether other tools, encoding with this tokenizer's files, put BOS in front and EOS at the end."""
        ids = self._parsing.encode("a").ids
        return ids[:1] == [self.bos_id], ids[-1:] == [self.eos_id]

    def add_tokens(self, names: Sequence[str], *, special: bool = False) -> Tokenizer:
        """A tokenizer with more tokens, ids from `vocab_size` on (the model's embedding must grow as much).

        Raises:
            OrreryError: a name that is empty, doubled or already a token.
        """
        known = [name for name in names if name in self._ids]
        if known or len(set(names)) < len(names) or not all(names):
            raise OrreryError(
                f"cannot add tokens {known or list(names)}: empty, given twice, or there already"
            )
        added = [added_token(name, self.vocab_size + i, special=special) for i, name in enumerate(names)]
        whole = [*(self.spec.get("added_tokens") or []), *added]
        return Tokenizer(self.spec | {"added_tokens": whole}, self.settings)

    # --- inside

    def _library(self, special: Special) -> tokenizers.Tokenizer:
        if special not in ("never", "allow"):
            raise OrreryError(f"special={special!r} is not 'never' or 'allow'")
        return self._parsing if special == "allow" else self._plain

    def _run(self, text: str, special: Special) -> tokenizers.Encoding:
        try:
            return self._library(special).encode(text, add_special_tokens=False)
        except BaseException as error:
            explain(text, error)

    def _raw(self, data: bytes) -> list[int]:
        """The id of each byte on its own."""
        lacking = next((byte for byte in data if bytes([byte]) not in self._byte_ids), None)
        if lacking is not None:
            raise OrreryError(f"byte 0x{lacking:02x} is not UTF-8 and this tokenizer has no token for it")
        return [self._byte_ids[bytes([byte])] for byte in data]

    @cached_property
    def _parsing(self) -> tokenizers.Tokenizer:
        """The library's tokenizer as other tools use it, which finds special tokens in text."""
        model = self.spec["model"]
        # elsewhere the plain one has other names
        shared = model.get("type") == "BPE" and not model.get("ignore_merges")
        return build(self.spec, "this tokenizer", model=self._plain.model if shared else None)

    @cached_property
    def _fast(self) -> fast.FastEngine | None:
        return fast.engine(self.spec)

    @cached_property
    def _pieces(self) -> Pieces:
        return piece_tables(self.spec, self._ids, self._plain)

    @cached_property
    def _names(self) -> list[str | None]:
        names: list[str | None] = [None] * self.vocab_size
        for name, i in self._ids.items():
            names[i] = name
        return names

    @cached_property
    def _byte_ids(self) -> dict[bytes, int]:
        if not decoder_kinds(self.spec) & {"ByteLevel", "ByteFallback"}:
            return {}
        single = {i: data for i, data in enumerate(self._pieces.rest) if data and len(data) == 1}
        named = sorted(
            single, key=lambda i: (self._names[i] or "").startswith("<0x")
        )  # these last, so they win
        return {single[i]: i for i in named if i not in self._special_ids}

    def _known(self, id: int) -> int:
        if not 0 <= id < self.vocab_size or self._names[id] is None:
            raise OrreryError(
                f"{id} is not a token id of this tokenizer (it has ids below {self.vocab_size})"
            )
        return id

    def _named(self, role: str, where: str) -> int | None:
        value = self.settings.get(role)
        name = value.get("content") if isinstance(value, dict) else value
        if name is None:
            return None
        if name not in self._ids:
            raise OrreryError(
                f"the tokenizer settings beside '{where}' name {role} {name!r}, which is not in the vocabulary"
            )
        return self._ids[name]

    def _refuse_leaks(self, where: str) -> None:
        """No special token may come out of plain text that spells its name."""
        for name, i in self.special.items():
            if i != self.unknown_id and i in self._run(name, "never").ids:
                raise OrreryError(
                    f"'{where}': the special token {name!r} is also made from plain text; rename it"
                )


def _ints(ids: Iterable[int]) -> list[int]:
    whole = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if not {*map(type, whole)} <= {int}:
        try:
            return [i.__index__() for i in whole]
        except AttributeError:
            raise OrreryError("token ids must be whole numbers") from None
    return whole
