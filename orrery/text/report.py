"""What a tokenizer does to text, in numbers: how many tokens a word costs in each language, what is never used.

fertility          tokens per word (words are cut at spaces; undefined for scripts that write none)
bytes per token    the compression a model starts from
Zipf's law         the r-th most frequent token occurs about C / r^s times: exponent s and how straight the line is
round-trip faults  texts that decoding does not bring back
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.text.config import TokenizerConfig
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import train_tokenizer

if TYPE_CHECKING:
    from rich.table import Table

_BATCH = 256  # texts encoded at a time
# Scripts written without spaces between words: Thai, Lao, Tibetan, Myanmar, Khmer, kana, and Han.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF),
    (0xF900, 0xFAFF), (0x20000, 0x323AF),
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A text that decoding its ids does not bring back: the first place where the two differ."""

    text: int
    at: int
    before: str
    after: str


@dataclass(frozen=True)
class LabelReport:
    """One language or domain. `fertility` is None where words are not separated by spaces."""

    label: str
    texts: int
    bytes: int
    characters: int
    tokens: int
    fertility: float | None
    bytes_per_token: float
    characters_per_token: float
    unknown_tokens: int
    faults: int
    first_fault: Fault | None


@dataclass(frozen=True)
class Zipf:
    """Least-squares line through log(count) over log(rank): count = C / rank^exponent, with its R^2."""

    exponent: float
    r_squared: float
    ranks: int


@dataclass(frozen=True)
class TokenizerReport:
    """The whole report: a row for each label, a row for all, and the vocabulary's use."""

    vocab_size: int
    fingerprint: str
    rows: tuple[LabelReport, ...]
    total: LabelReport
    unused: int
    unused_examples: tuple[str, ...]
    zipf: Zipf

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def table(self, *, most: int = 40) -> Table:
        """The rows for a terminal, the costliest labels first."""
        from rich.table import Table

        zipf, used = self.zipf, self.vocab_size - self.unused
        table = Table(
            title=f"{self.vocab_size} tokens, {used} used here, {self.unused} unused; "
            f"Zipf exponent {zipf.exponent:.2f} (R² {zipf.r_squared:.2f})"
        )
        for heading in (
            "label",
            "texts",
            "tokens",
            "tokens/word",
            "bytes/token",
            "characters/token",
            "unknown",
            "faults",
        ):
            table.add_column(heading, justify="left" if heading == "label" else "right")
        ordered = sorted(self.rows, key=lambda row: row.bytes_per_token)
        for row in [*ordered[:most], self.total]:
            table.add_row(
                row.label, str(row.texts), str(row.tokens), "-" if row.fertility is None else f"{row.fertility:.2f}",
                f"{row.bytes_per_token:.2f}", f"{row.characters_per_token:.2f}", str(row.unknown_tokens), str(row.faults),
            )  # fmt: skip
        if len(ordered) > most:
            table.caption = f"{len(ordered) - most} more labels not shown"
        return table


def tokenizer_report(tokenizer: Tokenizer, texts: Mapping[str, Iterable[str]]) -> TokenizerReport:
    """Measure a tokenizer on texts by label (a language, a domain); texts are read once, as a stream.

    Raises:
        OrreryError: no text at all.
    """
    used = np.zeros(tokenizer.vocab_size, np.int64)
    rows, whole, first = [], Counter[str](), None
    for label, group in texts.items():
        seen, fault = _measure(tokenizer, group, used)
        if seen["tokens"]:
            rows.append(_row(label, seen, fault))
            whole += seen
            first = first or fault
    if not rows:
        raise OrreryError("there is no text to report on")
    special = set(tokenizer.special.values())
    unused = [name for name, i in tokenizer.vocabulary.items() if used[i] == 0 and i not in special]
    return TokenizerReport(
        vocab_size=tokenizer.vocab_size,
        fingerprint=tokenizer.fingerprint,
        rows=tuple(rows),
        total=_row("all", whole, first),
        unused=len(unused),
        unused_examples=tuple(unused[-10:]),
        zipf=zipf_fit(used),
    )


def _measure(
    tokenizer: Tokenizer, texts: Iterable[str], used: np.ndarray
) -> tuple[Counter[str], Fault | None]:
    """Counts over one label's texts, and its first round-trip fault; `used` (V,) counts each id."""
    seen: Counter[str] = Counter()
    first: Fault | None = None
    stream = iter(texts)
    while batch := list(islice(stream, _BATCH)):
        for text, ids in zip(batch, tokenizer.encode_batch(batch), strict=True):
            used += np.bincount(ids, minlength=len(used))
            fault = _fault(seen["texts"], text, tokenizer.decode(ids))
            first = first or fault
            spaced = not _unspaced(text)
            seen["texts"] += 1
            seen["bytes"] += len(text.encode())
            seen["characters"] += len(text)
            seen["tokens"] += len(ids)
            seen["faults"] += fault is not None
            seen["unknown"] += (
                int((ids == tokenizer.unknown_id).sum()) if tokenizer.unknown_id is not None else 0
            )
            seen["words"] += len(text.split()) if spaced else 0
            seen["word_tokens"] += len(ids) if spaced else 0
    return seen, first


def _row(label: str, seen: Counter[str], first: Fault | None) -> LabelReport:
    return LabelReport(
        label=label,
        texts=seen["texts"],
        bytes=seen["bytes"],
        characters=seen["characters"],
        tokens=seen["tokens"],
        fertility=seen["word_tokens"] / seen["words"] if seen["words"] else None,
        bytes_per_token=seen["bytes"] / seen["tokens"],
        characters_per_token=seen["characters"] / seen["tokens"],
        unknown_tokens=seen["unknown"],
        faults=seen["faults"],
        first_fault=first,
    )


def _fault(number: int, before: str, after: str) -> Fault | None:
    if before == after:
        return None
    pairs = enumerate(zip(before, after, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(before), len(after)))
    return Fault(
        text=number, at=at, before=before[max(at - 10, 0) : at + 20], after=after[max(at - 10, 0) : at + 20]
    )


def _unspaced(text: str) -> bool:
    """Whether more than a third of the letters belong to scripts that put no spaces between words."""
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    letters = letters[letters > 0x40]
    joined = sum(int(((letters >= low) & (letters <= high)).sum()) for low, high in _UNSPACED)
    return 3 * joined > len(letters)


def zipf_fit(counts: Sequence[int] | np.ndarray, *, least: int = 2) -> Zipf:
    """Fit Zipf's law to token counts; ids seen fewer than `least` times are left out (there a line meets a staircase).

    The points are weighted by 1/rank, so that each decade of ranks counts the same and the long tail does not decide
    alone. Source: Zipf 1949; the fit on logarithmic axes as in Piantadosi 2014, doi:10.3758/s13423-014-0585-6.
    """
    ordered = np.sort(np.asarray(counts))[::-1]
    ordered = ordered[ordered >= least].astype(np.float64)
    if len(ordered) < 3:
        return Zipf(math.nan, math.nan, len(ordered))
    ranks = np.arange(1, len(ordered) + 1)
    x, y, weight = np.log(ranks), np.log(ordered), 1.0 / ranks
    weight /= weight.sum()
    x_mean, y_mean = weight @ x, weight @ y
    variance = weight @ (y - y_mean) ** 2
    slope = (weight @ ((x - x_mean) * (y - y_mean))) / (weight @ (x - x_mean) ** 2)
    residual = weight @ (y - y_mean - slope * (x - x_mean)) ** 2
    return Zipf(float(-slope), float(1 - residual / variance) if variance > 0 else math.nan, len(ordered))


@dataclass(frozen=True)
class SweepRow:
    """One vocabulary size: what it saves in tokens, and what its embedding costs."""

    vocab_size: int
    tokens_per_byte: float
    bytes_per_token: float
    embedding_parameters: int


def vocabulary_sweep(
    texts: Sequence[str],
    held_out: Sequence[str],
    *,
    sizes: Sequence[int],
    d_model: int,
    cfg: TokenizerConfig | None = None,
    tied: bool = True,
) -> list[SweepRow]:
    """Train a tokenizer of each size on `texts` and measure it on `held_out`.

    The embedding has vocabulary x d_model parameters, twice that when the output head is not tied to it.
    """
    cfg = cfg or TokenizerConfig()
    size = sum(len(text.encode()) for text in held_out)
    if not size:
        raise OrreryError("there is no held-out text to measure on")
    rows = []
    for wanted in sizes:
        tokenizer = train_tokenizer(texts, replace(cfg, vocab_size=wanted))
        tokens = sum(len(ids) for ids in tokenizer.encode_batch(held_out))
        embedding = tokenizer.vocab_size * d_model * (1 if tied else 2)
        rows.append(SweepRow(tokenizer.vocab_size, tokens / size, size / max(tokens, 1), embedding))
    return rows
