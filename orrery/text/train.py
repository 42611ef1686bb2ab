"""Training a tokenizer: text in, vocabulary out. Equal text and settings give equal ids, in any process.

BPE and unigram are trained by the tokenizers library, WordPiece by `wordpiece.py`. The library's work runs in a thread
beside, so Ctrl-C answers at once and progress can be shown; texts are read as a stream and never held.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from orrery.kit.errors import OrreryError
from orrery.text.backend import surrogate
from orrery.text.config import TokenizerConfig
from orrery.text.formats import around
from orrery.text.patterns import SPACE, SPACED_DIGITS, SPACED_WORDS, regex_of
from orrery.text.pieces import BYTE_OF_CHAR
from orrery.text.spec import Spec
from orrery.text.tokenizer import Tokenizer
from orrery.text.wordpiece import PREFIX, train_wordpiece

if TYPE_CHECKING:
    from orrery.kit.log import Progress

BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]
_CHUNK = 1 << 20  # characters; longer texts are cut at a line end, which keeps memory flat
_NORMALIZERS: dict[str, Callable[[], Any]] = {
    "nfc": normalizers.NFC,
    "nfd": normalizers.NFD,
    "nfkc": normalizers.NFKC,
    "nfkd": normalizers.NFKD,
    "lowercase": normalizers.Lowercase,
    "strip-accents": normalizers.StripAccents,
    "bert": normalizers.BertNormalizer,
}


def train_tokenizer(
    texts: Iterable[str], cfg: TokenizerConfig | None = None, *, progress: Progress | None = None
) -> Tokenizer:
    """Train on texts (read once, as a stream).

    A small text may not have enough pairs to fill the vocabulary; then it is smaller than `cfg.vocab_size`.

    Raises:
        OrreryError: no text, text that is not str, or settings that contradict each other.
    """
    cfg = cfg or TokenizerConfig()
    cfg.check()
    backend = _stages(cfg)
    reader = _Reader(texts)
    train = {"bpe": _bpe, "bpe-fallback": _bpe, "wordpiece": _wordpiece, "unigram": _unigram}[cfg.kind]
    _beside(lambda: train(backend, reader, cfg), reader, progress)
    spec = _finish(json.loads(backend.to_str()), cfg)
    if (size := len(spec["model"]["vocab"])) > cfg.vocab_size:
        raise OrreryError(
            f"vocab_size={cfg.vocab_size} is too small for kind '{cfg.kind}': this text's characters alone take {size}"
        )
    named = {"bos_token": cfg.bos, "eos_token": cfg.eos, "unk_token": cfg.unknown}
    return Tokenizer(spec, {key: name for key, name in named.items() if name is not None})


# --- stages


def _stages(cfg: TokenizerConfig) -> tokenizers.Tokenizer:
    """The stages around the model: normaliser, pre-tokeniser, decoder."""
    normal = [_NORMALIZERS[name]() for name in cfg.normalizer]
    if cfg.kind == "bpe":
        backend = tokenizers.Tokenizer(models.BPE())
        split = pre_tokenizers.Split(tokenizers.Regex(_checked_regex(cfg.pattern or "gpt4")), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        backend.decoder = decoders.ByteLevel()
    elif cfg.kind == "wordpiece":
        backend = tokenizers.Tokenizer(models.WordPiece(unk_token=cfg.unknown))
        words = (
            pre_tokenizers.BertPreTokenizer if cfg.pattern != "whitespace" else pre_tokenizers.WhitespaceSplit
        )
        backend.pre_tokenizer = words()
        backend.decoder = decoders.WordPiece(prefix=PREFIX, cleanup=True)
    else:
        backend = tokenizers.Tokenizer(models.Unigram() if cfg.kind == "unigram" else models.BPE())
        # One space is always put in front (and taken off again by the decoder), so that a leading space is not lost.
        normal += [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        words = tokenizers.Regex(SPACED_DIGITS if cfg.pattern == "digits" else SPACED_WORDS)
        backend.pre_tokenizer = pre_tokenizers.Split(words, "isolated")
        parts = [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
        backend.decoder = decoders.Sequence(parts)
    if normal:
        backend.normalizer = normalizers.Sequence(normal)
    return backend


def _checked_regex(pattern: str) -> str:
    regex = regex_of(pattern)
    try:
        tokenizers.Regex(regex)
    except Exception as error:
        raise OrreryError(f"the pattern {regex!r} is no regular expression ({error})") from None
    return regex


# --- models


def _bpe(backend: tokenizers.Tokenizer, texts: Iterable[str], cfg: TokenizerConfig) -> None:
    """Byte-level BPE starts from the 256 bytes; the fallback kind gets its byte tokens afterwards."""
    level = cfg.kind == "bpe"
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab_size - (0 if level else 256),
        min_frequency=cfg.min_frequency,
        special_tokens=cfg.specials,
        initial_alphabet=list(BYTE_OF_CHAR) if level else [],
        max_token_length=cfg.max_token_length,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)


def _unigram(backend: tokenizers.Tokenizer, texts: Iterable[str], cfg: TokenizerConfig) -> None:
    trainer = trainers.UnigramTrainer(
        vocab_size=cfg.vocab_size - (256 if cfg.byte_fallback else 0),
        special_tokens=cfg.specials,
        unk_token=cfg.unknown,
        max_piece_length=cfg.max_token_length or 16,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)


def _wordpiece(backend: tokenizers.Tokenizer, texts: Iterable[str], cfg: TokenizerConfig) -> None:
    words: Counter[str] = Counter()
    for text in texts:
        text = backend.normalizer.normalize_str(text) if backend.normalizer else text
        words.update([word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)])
    pieces = train_wordpiece(
        words,
        cfg.vocab_size - len(cfg.specials),
        min_frequency=cfg.min_frequency,
        max_length=cfg.max_token_length,
    )
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*cfg.specials, *pieces]))}
    backend.model = models.WordPiece(vocabulary, unk_token=cfg.unknown, continuing_subword_prefix=PREFIX)
    backend.add_special_tokens(cfg.specials)


# --- the finished description


def _finish(spec: Spec, cfg: TokenizerConfig) -> Spec:
    """Byte tokens, a settled order, and the post-processor."""
    if cfg.kind == "unigram":
        _settle_unigram(spec["model"], cfg)
    if cfg.kind == "bpe-fallback":
        old = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].__getitem__)
        names = [*cfg.specials, *BYTE_PIECES, *old[len(cfg.specials) :]]
        spec["model"] |= {"vocab": {name: i for i, name in enumerate(names)}, "byte_fallback": True}
    if cfg.add_bos or cfg.add_eos:
        front = [cfg.bos] if cfg.add_bos and cfg.bos else []
        back = [cfg.eos] if cfg.add_eos and cfg.eos else []
        ids = {token["content"]: token["id"] for token in spec["added_tokens"]}
        spec["post_processor"] = around(front, back, ids)
    return spec


def _settle_unigram(model: Spec, cfg: TokenizerConfig) -> None:
    """Give the vocabulary the same scores and order in every process.

    The library scores characters that the last round of pruning dropped by the order of a hash table (steps of 0.0001
    above the lowest score), and sums probabilities in no fixed order.
    """
    count = len(cfg.specials)
    pieces = [(piece, score) for piece, score in model["vocab"][count:]]
    lowest = min((score for _, score in pieces), default=0.0)
    band = lowest + 1e-4 * (1 + sum(len(piece) == 1 for piece, _ in pieces))
    settled = [(p, round(lowest if len(p) == 1 and score <= band else score, 6)) for p, score in pieces]
    settled.sort(key=lambda entry: (-entry[1], entry[0]))
    special = [[name, 0.0] for name in cfg.specials]
    # Byte tokens are for unknown characters only: no word that the pattern cuts spells "<0x0A>".
    raw = [[name, round(lowest, 6)] for name in BYTE_PIECES] if cfg.byte_fallback else []
    model["vocab"] = [*special, *raw, *([piece, score] for piece, score in settled)]
    model["byte_fallback"] = cfg.byte_fallback
    model["unk_id"] = cfg.specials.index(cfg.unknown or "")


# --- reading beside a thread


class _Reader:
    """Checks and counts texts on their way to the trainer; stops when told to."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.read = 0
        self.stopped = threading.Event()
        self.finished = threading.Event()

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self.texts):
            if not isinstance(text, str):
                raise OrreryError(
                    f"training text {number} is {type(text).__name__}, not str; decode it first"
                )
            if (at := surrogate(text)) is not None:
                raise OrreryError(
                    f"training text {number} has a lone surrogate at character {at}; read it with errors='replace'"
                )
            for chunk in _chunks(text):
                if self.stopped.is_set():
                    return
                self.read += len(chunk)
                yield chunk
        if self.read == 0:
            raise OrreryError("there is no text to train a tokenizer on; check the source")
        self.finished.set()


def _chunks(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _CHUNK:
        line = text.rfind("\n", start, start + _CHUNK) + 1
        end = line if line > start else start + _CHUNK
        yield text[start:end]
        start = end
    yield text[start:]


def _beside(work: Callable[[], None], reader: _Reader, progress: Progress | None) -> None:
    """Run `work` in a thread, show how far it is, pass its error on; Ctrl-C stops waiting at once."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=run, daemon=True, name="train-tokenizer")
    begun = time.monotonic()
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            if progress is not None:
                doing = "merging" if reader.finished.is_set() else "reading"
                progress.update(reader.read, None, stage=doing, seconds=time.monotonic() - begun)
    except BaseException:
        reader.stopped.set()
        raise
    for fault in faults:
        if isinstance(fault, OrreryError | KeyboardInterrupt | MemoryError):
            raise fault
        raise OrreryError(f"training the tokenizer failed: {' '.join(str(fault).split())[:300]}") from fault
