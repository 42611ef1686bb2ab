"""Where everything went: in = kept + dropped (+ padding), checked in every run, never assumed.

An account that does not add up is a fault of ours, not of the input, and stops the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orrery.data.clean import Cleaned
from orrery.data.manifest import Split
from orrery.data.shard_writer import ShardWriter
from orrery.kit.errors import OrreryError


def balance(what: str, whole: int, **parts: int) -> None:
    """Raise unless the parts sum to the whole."""
    if whole != sum(parts.values()):
        raise AssertionError(f"the account of {what} does not add up: {whole} != {parts}")


@dataclass
class PrepareAccount:
    """One run of `prepare`, in documents, bytes (UTF-8) and tokens.

    documents read = kept + dropped; bytes read = kept + dropped + cleaned away; tokens = text + separators.
    Documents that are parts of a longer one count each. `cleaned_bytes` is net: composing can add bytes.
    """

    read_documents: int = 0
    read_bytes: int = 0
    cleaned_bytes: int = 0
    kept_documents: int = 0
    kept_bytes: int = 0
    dropped_documents: Counter[str] = field(default_factory=Counter)
    dropped_bytes: Counter[str] = field(default_factory=Counter)
    skipped_files: dict[str, str] = field(default_factory=dict)
    text_tokens: int = 0
    separator_tokens: int = 0
    splits: dict[str, dict[str, int]] = field(default_factory=dict)

    def read(self, cleaned: Cleaned) -> None:
        """A document came in and was cleaned."""
        self.read_documents += 1
        self.read_bytes += cleaned.bytes_before
        self.cleaned_bytes += cleaned.bytes_before - len(cleaned.data)

    def drop(self, reason: str, cleaned: Cleaned) -> None:
        """A cleaned document was left out."""
        self.dropped_documents[reason] += 1
        self.dropped_bytes[reason] += len(cleaned.data)

    def keep(self, cleaned: Cleaned) -> None:
        """A cleaned document was kept."""
        self.kept_documents += 1
        self.kept_bytes += len(cleaned.data)

    def skip(self, path: str, error: OrreryError) -> None:
        """A file, or the rest of it, could not be read and was left out."""
        self.skipped_files[path] = str(error)

    def tokenised(self, text_tokens: int, separators: int) -> None:
        """A kept document became this many tokens."""
        self.text_tokens += text_tokens
        self.separator_tokens += separators

    def finish(self, writers: Mapping[Split, ShardWriter]) -> None:
        """Compare with what was written.

        Raises:
            AssertionError: a sum does not hold.
        """
        self.splits = {
            name: {"documents": writer.documents, "bytes": writer.bytes, "tokens": writer.tokens}
            for name, writer in writers.items()
        }
        written = {
            unit: {name: split[unit] for name, split in self.splits.items()}
            for unit in ("documents", "bytes", "tokens")
        }
        balance(
            "documents", self.read_documents, kept=self.kept_documents, dropped=self.dropped_documents.total()
        )
        balance(
            "bytes",
            self.read_bytes,
            kept=self.kept_bytes,
            dropped=self.dropped_bytes.total(),
            cleaned=self.cleaned_bytes,
        )
        balance("documents written", self.kept_documents, **written["documents"])
        balance("bytes written", self.kept_bytes, **written["bytes"])
        balance("tokens written", self.text_tokens + self.separator_tokens, **written["tokens"])

    def as_dict(self) -> dict[str, Any]:
        """What stats.json holds."""
        return {
            "documents": {
                "read": self.read_documents,
                "kept": self.kept_documents,
                "dropped": dict(self.dropped_documents),
            },
            "bytes": {
                "read": self.read_bytes,
                "kept": self.kept_bytes,
                "dropped": dict(self.dropped_bytes),
                "cleaned_away": self.cleaned_bytes,
            },
            "tokens": {"text": self.text_tokens, "separators": self.separator_tokens},
            "bytes_per_token": round(self.kept_bytes / max(1, self.text_tokens), 4),
            "splits": self.splits,
            "skipped_files": self.skipped_files,
        }

    def summary(self) -> str:
        """One clause for a person."""
        reasons = (
            ", ".join(f"{count} {reason}" for reason, count in self.dropped_documents.items())
            or "none dropped"
        )
        return f"{self.read_documents} documents read, {self.kept_documents} kept ({reasons})"


@dataclass(frozen=True, kw_only=True)
class EpochAccount:
    """One epoch over one shard set.

    tokens = targets + dropped + first: the first token of each document is read but never predicted.
    slots = targets + padding: room in the rows, and how much of it stays empty (lengths only, nothing is computed there).
    """

    corpus: str
    tokens: int
    first: int
    targets: int
    dropped: int
    slots: int
    padding: int

    def __post_init__(self) -> None:
        balance("tokens", self.tokens, targets=self.targets, dropped=self.dropped, first=self.first)
        balance("slots", self.slots, targets=self.targets, padding=self.padding)
