"""tiktoken's engine gives the library's ids: by proof on the merge table, by trial on text, over all of Unicode."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text import Tokenizer, TokenizerConfig, fast, train_tokenizer
from orrery.text.formats import byte_level_spec, gpt2_files
from orrery.text.patterns import GPT2, PATTERNS
from orrery.text.pieces import CHAR_OF_BYTE, bytes_of

from .conftest import SAMPLES


@pytest.fixture(scope="module")
def engine(bpe: Tokenizer) -> fast.FastEngine:
    made = fast.engine(bpe.spec)
    assert made is not None
    return made


ALPHABET = {char: i for i, char in enumerate(sorted(CHAR_OF_BYTE.values()))}


def random_merges(draw: random.Random, *, every_split: bool) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A merge list no training would give: random pairs of known tokens over two or three letters."""
    vocab, merges, tokens = dict(ALPHABET), [], list("abc"[: draw.randint(2, 3)])
    for _ in range(draw.randint(1, 14)):
        left, right = draw.choice(tokens), draw.choice(tokens)
        if len(left + right) < 10 and left + right not in vocab:
            vocab[left + right] = len(vocab)
            tokens.append(left + right)
            merges.append((left, right))
    if every_split:  # as in files converted from SentencePiece or tiktoken
        made = sorted((token for token in vocab if len(token) > 1), key=vocab.__getitem__)
        splits = [(token[:k], token[k:]) for token in made for k in range(1, len(token))]
        merges = [
            (a, b) for a, b in splits if a in vocab and b in vocab and max(vocab[a], vocab[b]) < vocab[a + b]
        ]
    return vocab, merges


def test_equal_ids_on_merge_lists_made_to_differ() -> None:
    draw, differs_without = random.Random(1), 0
    for trial in range(200):
        vocab, merges = random_merges(draw, every_split=trial % 3 == 0)
        spec = byte_level_spec(vocab, merges)
        library, engine = tokenizers.Tokenizer.from_str(json.dumps(spec)), fast.engine(spec)
        assert engine is not None
        whole = {bytes_of(piece): i for piece, i in vocab.items()}
        naive = tiktoken.Encoding("x", pat_str=GPT2, mergeable_ranks=whole, special_tokens={"<|x|>": 9999})
        for _ in range(20):
            word = "".join(draw.choices("abc", k=draw.randint(1, 30)))
            ids = library.encode(word).ids
            assert engine.encode(word).tolist() == ids, (merges, word)
            differs_without += naive.encode_ordinary(word) != ids
    assert differs_without > 50  # the tokens that condition 2 leaves out are what makes the difference


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_equal_ids_on_real_text_for_every_pattern(pattern: str, corpus: list[str]) -> None:
    tokenizer = train_tokenizer(corpus, TokenizerConfig(vocab_size=600, pattern=pattern))
    engine = fast.engine(tokenizer.spec)
    assert engine is not None
    for part in (*corpus, *SAMPLES):
        assert engine.encode(part).tolist() == tokenizer.encode(part)


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("aA1 .'\n\r\tſst"), max_size=40)
)
def test_equal_ids_on_any_text(engine: fast.FastEngine, bpe: Tokenizer, text: str) -> None:
    assert engine.encode(text).tolist() == bpe.encode(text)


@pytest.mark.parametrize(
    "piece",
    [
        r"\p{L}",
        r"\p{N}",
        r"\s",
        r"\p{Lu}",
        r"\p{Ll}",
        r"\p{Lt}",
        r"\p{Lm}",
        r"\p{Lo}",
        r"\p{M}",
        "(?i:s)",
        "(?i:l)",
    ],
)
def test_both_expression_libraries_know_the_same_characters(piece: str) -> None:
    every = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
    without = tokenizers.normalizers.Replace(tokenizers.Regex(piece), "").normalize_str(every)
    theirs = set(every) - set(without)
    table = {bytes([b]): b for b in range(256)}
    engine = tiktoken.Encoding("x", pat_str=piece, mergeable_ranks=table, special_tokens={"<|x|>": 256})
    ours = set(bytes(engine.encode_ordinary(every)).decode())  # what the pattern does not match is left out
    assert ours == theirs and ours


def test_gpt2_is_proven_and_equal_on_real_text(gpt2_folder: Path, corpus: list[str]) -> None:
    tokenizer = gpt2_files(gpt2_folder / "encoder.json", gpt2_folder / "vocab.bpe")
    engine = fast.engine(tokenizer.spec)
    assert engine is not None and len(fast.ranks(tokenizer.spec) or ()) == 50256
    for part in (*corpus, *SAMPLES):
        assert engine.encode(part).tolist() == tokenizer.encode(part)


def test_runs_too_long_for_the_engine_fall_back_to_the_library(
    engine: fast.FastEngine, bpe: Tokenizer
) -> None:
    run = " " * 1_000_000 + "x"
    with pytest.raises(ValueError):
        engine.encode(run)
    batch = bpe.encode_batch([run, "^" * 300_000, "a" * 2_000_000, "\u0301" * 200_000, "\n" * 300_000])
    assert [len(bpe.decode(ids)) for ids in batch] == [1_000_001, 300_000, 2_000_000, 200_000, 300_000]
    assert batch[0].tolist() == bpe.encode(run)


def test_a_large_batch_runs_on_the_engine_and_a_small_one_does_not_wait_for_it(corpus: list[str]) -> None:
    tokenizer = train_tokenizer(corpus, TokenizerConfig(vocab_size=400))
    tokenizer.encode_batch(corpus)
    assert "_fast" not in vars(tokenizer)
    for _ in range(20):  # many small batches are a large one
        tokenizer.encode_batch(corpus)
    assert isinstance(vars(tokenizer).get("_fast"), fast.FastEngine)
    large = ["\n\n".join(corpus)] * 20
    batch = tokenizer.encode_batch(large, threads=2)
    assert isinstance(vars(tokenizer)["_fast"], fast.FastEngine)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(large[0])] * 20
    assert all(isinstance(ids, np.ndarray) for ids in batch)
    with pytest.raises(OrreryError, match="lone surrogate"):
        tokenizer.encode_batch(["a\udfff"])


def test_where_equality_is_not_certain_the_library_encodes(corpus: list[str], trained: object) -> None:
    for cfg in (
        TokenizerConfig(vocab_size=400, normalizer=("nfc",)),
        TokenizerConfig(vocab_size=400, pattern=r"\w+|\W+"),
        TokenizerConfig(kind="bpe-fallback", vocab_size=500),
    ):
        assert fast.engine(train_tokenizer(corpus, cfg).spec) is None
    vocab = ALPHABET | {"ab": 256, "abc": 257, "bc": 258}
    for merges in (
        [("a", "b"), ("b", "c"), ("ab", "c")],
        [("ab", "c"), ("a", "b")],
    ):  # ids fall along the list
        assert fast.ranks(byte_level_spec(vocab, merges)) is None
    words = byte_level_spec(vocab, [("a", "b")])
    words["model"]["ignore_merges"] = True  # then "abc" is found whole as a word, and never inside one
    assert fast.ranks(words) is None
    assert (
        fast.engine(train_tokenizer(corpus, TokenizerConfig(vocab_size=400)).add_tokens(["word"]).spec)
        is None
    )


def test_a_token_its_own_bytes_do_not_make_is_left_out() -> None:
    # "bc" merges first, so "ab"+"c" never happens and the bytes of "abc" give [a, bc].
    vocab = ALPHABET | {"bc": 256, "ab": 257, "abc": 258}
    spec = byte_level_spec(vocab, [("b", "c"), ("a", "b"), ("ab", "c")])
    table = fast.ranks(spec)
    assert table is not None and b"abc" not in table and table[b"bc"] == 256
    engine = fast.engine(spec)
    assert engine is not None and engine.encode("abc").tolist() == [vocab["a"], vocab["bc"]]
