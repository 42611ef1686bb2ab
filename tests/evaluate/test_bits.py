from __future__ import annotations

import math
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from orrery.evaluate.bits import Bits, DocumentBits, bits_per_byte, score_text
from orrery.evaluate.compression import compressed_bits_per_byte
from orrery.evaluate.ngram import kneser_ney
from orrery.evaluate.ngram_counts import count_ngrams
from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.text import TokenizerConfig, train_tokenizer


@dataclass(frozen=True)
class Text:
    id: str
    ids: list[int]
    n_bytes: int


def uniform(documents) -> list[np.ndarray]:
    """A model of four equally likely tokens: two bits each."""
    return [np.full(len(ids), math.log(1 / 4)) for ids in documents]


def test_a_uniform_model_by_hand() -> None:
    """Three tokens of 2 bits for 3 bytes, five for 4: 16 bits over 7 bytes."""
    result = bits_per_byte(uniform, [Text("a", [0, 1, 2], 3), Text("b", [3] * 5, 4)])
    assert result.bits_per_byte == pytest.approx(16 / 7)
    assert result.perplexity == pytest.approx(4)
    assert (result.tokens, result.bytes, result.unscored) == (8, 7, ())
    assert [d.bits_per_byte for d in result.documents] == pytest.approx([2, 2.5])


def test_standard_error_by_hand() -> None:
    """Bits 2 and 6 over bytes 2 and 2: R = 2, residuals -2 and 2, sqrt(2 / 1 * 8) / 4 = 1."""
    rows = [DocumentBits(id=str(b), nats=b * math.log(2), tokens=1, bytes=2) for b in (2, 6)]
    assert Bits(documents=tuple(rows)).standard_error == pytest.approx(1.0)
    assert math.isnan(Bits(documents=tuple(rows[:1])).standard_error)
    assert Bits(documents=tuple(rows[:1])).to_dict()["standard_error"] is None


def test_the_standard_error_is_that_of_resampled_documents() -> None:
    rng = np.random.default_rng(0)
    size = rng.integers(50, 150, 400)
    bits = size * rng.normal(2.0, 0.3, 400)
    rows = [
        DocumentBits(id="", nats=float(b) * math.log(2), tokens=1, bytes=int(n))
        for b, n in zip(bits, size, strict=True)
    ]
    draws = rng.integers(0, 400, (2000, 400))
    bootstrap = (bits[draws].sum(1) / size[draws].sum(1)).std()
    assert Bits(documents=tuple(rows)).standard_error == pytest.approx(bootstrap, rel=0.1)


def test_start_ids_give_context_and_are_not_scored() -> None:
    documents = [Text("a", [9, 0, 1], 2), Text("b", [9, 3], 1)]
    result = bits_per_byte(uniform, documents, start_id=9)
    assert (result.tokens, result.bits_per_byte) == (3, pytest.approx(2))
    with pytest.raises(OrreryError, match="'c' does not begin with the start id 9"):
        bits_per_byte(uniform, [*documents, Text("c", [0], 1)], start_id=9)


def test_what_cannot_be_scored_is_named_and_in_no_total() -> None:
    def broken(documents) -> list[np.ndarray]:
        return [np.full(len(ids), math.nan if 7 in ids else -1.0) for ids in documents]

    result = bits_per_byte(
        broken, [Text("empty", [], 0), Text("good", [1, 2], 2), Text("nan", [7], 1), Text("no bytes", [1], 0)]
    )
    assert result.unscored == ("empty", "nan", "no bytes")
    assert (result.tokens, result.bytes, result.nats) == (2, 2, 2.0)
    assert result.to_dict()["unscored"] == ["empty", "nan", "no bytes"]
    with pytest.raises(OrreryError, match="none of the 1 held-out documents"):
        bits_per_byte(uniform, [Text("empty", [], 0)])


@pytest.fixture(scope="module")
def lm() -> LM:
    tokenizer = train_tokenizer(["the cat sat on the mat "] * 20, TokenizerConfig(vocab_size=300))
    shape = {"d_model": 16, "n_layers": 1, "n_heads": 2, "feed_forward": Mlp(d_ff=24), "max_positions": 16}
    return LM(
        model=Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape)).eval(), tokenizer=tokenizer
    )


def test_a_model_scores_as_its_own_logits_say(lm) -> None:
    bos, texts = lm.tokenizer.bos_id, ["the cat", "sat on the mat the cat"]
    documents = [Text(t, [bos, *lm.tokenizer.encode(t)], len(t)) for t in texts]
    result = bits_per_byte(lm, documents, start_id=bos)
    for row, document in zip(result.documents, documents, strict=True):
        logprobs = lm.logits(document.ids).log_softmax(-1)[:-1]
        want = -float(logprobs[torch.arange(len(document.ids) - 1), torch.tensor(document.ids[1:])].sum())
        assert row.nats == pytest.approx(want, abs=1e-4)
        assert row.nats == pytest.approx(score_text(lm, document.id).nats, abs=1e-4)
    assert result.documents == bits_per_byte(lm.model, documents, start_id=bos).documents
    bare = [Text(d.id, d.ids[1:], d.n_bytes) for d in documents]
    assert bits_per_byte(lm, bare).documents == result.documents  # an LM reads its own BOS
    charged = bits_per_byte(lm.model, bare).documents[
        0
    ]  # a network alone has none: its first token costs log V
    assert charged.tokens == result.documents[0].tokens


def test_a_small_stride_costs_more_and_tells_less_surprise(lm) -> None:
    document = Text("long", lm.tokenizer.encode("the cat sat on the mat " * 20), 460)
    strides = {s: bits_per_byte(lm, [document], context=8, stride=s) for s in (1, 4, 8)}
    assert len({r.tokens for r in strides.values()}) == 1
    assert strides[1].nats != strides[8].nats


def test_one_table_for_counting_and_compressing_real_text() -> None:
    """Bytes of the standard library as tokens: every order predicts better than the one before."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts = [
        (root / name).read_bytes()
        for name in ("argparse.py", "ast.py", "pathlib.py", "socket.py", "shutil.py", "logging/__init__.py")
    ]
    held_out = (root / "tarfile.py").read_bytes()
    counts = count_ngrams([list(text) for text in texts], order=5, vocab_size=256)
    document = Text("tarfile.py", list(held_out), len(held_out))
    bits = [
        bits_per_byte(kneser_ney(counts.truncated(n)).logprobs, [document]).bits_per_byte for n in range(1, 6)
    ]
    assert bits == sorted(bits, reverse=True)
    assert bits[4] < 2.8 < 4.3 < bits[0]
    alone, given = (
        compressed_bits_per_byte(held_out),
        compressed_bits_per_byte(held_out, given=b"".join(texts)),
    )
    assert given < alone < 2.8
