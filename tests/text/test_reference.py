"""The readable mechanisms against hand-worked examples and against the tokenizers library."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, trainers

from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.pieces import CHAR_OF_BYTE
from orrery.text.reference import encode_bpe, encode_unigram, encode_wordpiece, train_bpe
from orrery.text.spec import merge_pairs

PAPER = {"low": 5, "lower": 2, "newest": 6, "widest": 3}  # Sennrich et al. 2016, algorithm 1


def test_the_papers_example() -> None:
    merges = train_bpe(PAPER, merges=10)
    # e+s and s+t: 6 newest + 3 widest = 9 each, e came first; es+t 9; l+o 5 low + 2 lower = 7; lo+w 7; then newest, widest.
    assert merges == [
        ("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w"), ("e", "w"), ("n", "ew"), ("new", "est"),
        ("d", "est"), ("i", "dest"), ("w", "idest"),
    ]  # fmt: skip
    assert encode_bpe("lowest", merges) == ["low", "est"]  # a word it never saw
    assert encode_bpe("low", merges) == ["low"]
    assert encode_bpe("xyz", merges) == ["x", "y", "z"]


def test_the_papers_example_with_its_end_of_word_mark() -> None:
    merges = train_bpe({(*word, "</w>"): n for word, n in PAPER.items()}, merges=9)
    made = {left + right for left, right in merges}
    assert merges[0] == ("e", "s") and made >= {"es", "est</w>", "lo", "low", "newest</w>", "low</w>"}
    assert encode_bpe([*"lowest", "</w>"], merges) == ["low", "est</w>"]


def test_ties_go_to_the_pair_whose_symbols_came_first() -> None:
    assert train_bpe({"ab": 1, "cd": 1, "ba": 1}, merges=3) == [("a", "b"), ("b", "a"), ("c", "d")]


def test_overlapping_pairs_merge_from_the_left() -> None:
    assert train_bpe({"aaa": 1}, merges=2) == [("a", "a"), ("aa", "a")]
    assert encode_bpe("aaaa", [("a", "a")]) == ["aa", "aa"]
    assert encode_bpe("aaa", [("a", "a")]) == ["aa", "a"]


def test_training_stops_when_pairs_are_too_rare() -> None:
    assert train_bpe({"ab": 2, "cd": 1}, merges=9, min_frequency=2) == [("a", "b")]


def words_of(tokenizer: Tokenizer, texts: list[str]) -> Counter[str]:
    """How often each pre-token occurs, as the library cuts it."""
    stage = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.spec)).pre_tokenizer
    return Counter(word for text in texts for word, _ in stage.pre_tokenize_str(text))


def library_merges(words: Counter[str], size: int, min_frequency: int) -> list[tuple[str, str]]:
    """What the library's trainer learns from the same words."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split("\n", "removed")
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=min_frequency, show_progress=False)
    backend.train_from_iterator((f"{word}\n" for word, n in words.items() for _ in range(n)), trainer)
    return merge_pairs(json.loads(backend.to_str())["model"])


@settings(max_examples=150, deadline=None)
@given(
    words=st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 5), min_size=1, max_size=12),
    size=st.integers(4, 30),
)
def test_training_equals_the_librarys_on_words_full_of_ties(words: dict[str, int], size: int) -> None:
    letters = len(set("".join(words)))
    assert train_bpe(words, merges=size - letters) == library_merges(Counter(words), size, 0)


def test_training_and_encoding_equal_the_librarys_on_real_text(bpe: Tokenizer, corpus: list[str]) -> None:
    words = words_of(bpe, corpus)
    learned = merge_pairs(bpe.spec["model"])
    ours = train_bpe(words, merges=len(learned), alphabet=list(CHAR_OF_BYTE.values()), min_frequency=2)
    assert ours == learned and len(ours) > 400
    for word in words:
        assert [bpe.id(piece) for piece in encode_bpe(word, ours)] == [
            token.id for token in tokenizers.models.BPE(dict(bpe.vocabulary), ours).tokenize(word)
        ]


@pytest.mark.slow
def test_training_equals_the_librarys_on_a_book(shared_data: Path) -> None:
    import gzip

    book = gzip.decompress((shared_data / "pretrain" / "tinyshakespeare.txt.gz").read_bytes()).decode()
    tokenizer = train_tokenizer([book], TokenizerConfig(vocab_size=4000))
    learned = merge_pairs(tokenizer.spec["model"])
    words = words_of(tokenizer, [book])
    assert (
        train_bpe(words, merges=len(learned), alphabet=list(CHAR_OF_BYTE.values()), min_frequency=2)
        == learned
    )


def test_wordpiece_by_hand() -> None:
    vocabulary = {piece: i for i, piece in enumerate(["un", "##aff", "##able", "##a", "a", "##ff"])}
    assert encode_wordpiece("unaffable", vocabulary, unknown="[UNK]") == [
        "un",
        "##aff",
        "##able",
    ]  # longest first
    assert encode_wordpiece("unx", vocabulary, unknown="[UNK]") == ["[UNK]"]
    assert encode_wordpiece("a" * 101, vocabulary, unknown="[UNK]") == ["[UNK]"]


def test_wordpiece_equals_the_library(trained: Callable[[str], Tokenizer], corpus: list[str]) -> None:
    tokenizer = trained("wordpiece")
    vocabulary = dict(tokenizer.vocabulary)
    library = models.WordPiece(vocabulary, unk_token="[UNK]")
    words = set(re.findall(r"\w+|\S", "\n".join(corpus))) | {"unseenword", "xyzzy", "日本"}
    for word in words:
        assert encode_wordpiece(word, vocabulary, unknown="[UNK]") == [
            t.value for t in library.tokenize(word)
        ]


def test_unigram_by_hand() -> None:
    logp = {"a": -3.0, "b": -3.0, "ab": -5.0, "c": -1.0, "bc": -3.5}
    assert encode_unigram("ab", logp) == ["ab"]  # -5 beats -3 - 3
    assert encode_unigram("abc", logp) == ["ab", "c"]  # -6 beats a+bc = -6.5 and a+b+c = -7
    assert encode_unigram("aXYb", logp) == ["a", "XY", "b"]


def test_unigram_equals_the_library(trained: Callable[[str], Tokenizer], corpus: list[str]) -> None:
    model = trained("unigram").spec["model"]
    special = set(trained("unigram").special)
    vocab = [(piece, score) for piece, score in model["vocab"] if piece not in special or piece == "<unk>"]
    library = models.Unigram([(piece, score) for piece, score in vocab], vocab.index(("<unk>", 0.0)), False)
    logp = {piece: score for piece, score in vocab if piece != "<unk>"}
    words = sorted({"▁" + word for text in corpus for word in text.split(" ") if "<" not in word})[:600]
    for word in words:
        ours = encode_unigram(word, logp)
        theirs = [token.value for token in library.tokenize(word)]
        assert "".join(ours) == "".join(theirs)
        score = sum(logp.get(piece, 0.0) for piece in ours)
        assert ours == theirs or abs(score - sum(logp.get(piece, 0.0) for piece in theirs)) < 1e-9  # a tie
