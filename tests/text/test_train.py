"""Training: the same ids in every process, every stage settable, mistakes named, Ctrl-C answered."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
import tokenizers

from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.text import SPECIAL_TOKENS, Tokenizer, TokenizerConfig, train_tokenizer
from orrery.text.patterns import PATTERNS

from .conftest import KINDS

FINGERPRINT = """
import textwrap, sys
from orrery.text import TokenizerConfig, train_tokenizer
texts = open(textwrap.__file__, encoding="utf-8").read().split("\\n\\n")
print(train_tokenizer(texts, TokenizerConfig(kind=sys.argv[1], vocab_size=600)).fingerprint)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_equal_ids_in_every_process(kind: str) -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT, kind],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(seed)},
        )
        for seed in (1, 2)
    ]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout.strip()) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_have_the_first_ids(kind: str, corpus: list[str]) -> None:
    names = ("<s>", "</s>", "<|x|>")
    tokenizer = train_tokenizer(
        corpus, TokenizerConfig(kind=kind, vocab_size=600, special_tokens=names, bos="<s>", eos="</s>")
    )  # type: ignore[arg-type]
    first = [] if tokenizer.unknown_id is None else [tokenizer.name(0)]
    assert [tokenizer.name(i) for i in range(3 + len(first))] == [*first, *names]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (len(first), len(first) + 1)
    assert tokenizer.vocab_size == 600


def test_the_byte_level_layout_is_specials_then_bytes_then_merges_in_order(bpe: Tokenizer) -> None:
    names = list(bpe.vocabulary)
    assert tuple(names[:16]) == SPECIAL_TOKENS
    assert all(len(name) == 1 for name in names[16:272]) and names[16:272] == sorted(names[16:272])
    assert ["".join(pair) for pair in bpe.spec["model"]["merges"]] == names[272:]


# --- the stages, one by one


def test_normalisers_apply_in_order(corpus: list[str]) -> None:
    for stages, text, seen in (
        (("nfc",), "e\u0301", "é"),
        (("nfkc",), "ﬁ ²", "fi 2"),
        (("lowercase",), "ABC Ä", "abc ä"),
        (("nfd", "strip-accents", "lowercase"), "Ürümqi", "urumqi"),
        (("bert",), "Tëst", "test"),
    ):
        tokenizer = train_tokenizer(corpus, TokenizerConfig(vocab_size=400, normalizer=stages))  # type: ignore[arg-type]
        assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", seen)


@pytest.mark.parametrize(
    ("pattern", "pieces"),
    [
        ("gpt2", ["I", "'m", "ĠTOLD", "Ġ12345", "!!", "ĊĠĠ", "Ġit"]),
        ("gpt4", ["I", "'m", "ĠTOLD", "Ġ", "123", "45", "!!Ċ", "ĠĠ", "Ġit"]),
        ("digits", ["I", "'m", "ĠTOLD", "Ġ", "1", "2", "3", "4", "5", "!!Ċ", "ĠĠ", "Ġit"]),
        ("gpt4o", ["I'm", "ĠTOLD", "Ġ", "123", "45", "!!Ċ", "ĠĠ", "Ġit"]),
    ],
)
def test_patterns_cut_where_their_models_do(pattern: str, pieces: list[str]) -> None:
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
    level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    stage = tokenizers.pre_tokenizers.Sequence([split, level])
    assert [piece for piece, _ in stage.pre_tokenize_str("I'm TOLD 12345!!\n   it")] == pieces


def test_a_pattern_of_ones_own_is_never_crossed(corpus: list[str]) -> None:
    tokenizer = train_tokenizer(corpus, TokenizerConfig(vocab_size=500, pattern=r"[aeiou]|[^aeiou]+"))
    vowels = [
        name for name in tokenizer.vocabulary if set(name) & set("aeiou") and name not in tokenizer.special
    ]
    assert sorted(vowels) == list("aeiou")


@pytest.mark.parametrize("kind", ["bpe-fallback", "unigram"])
def test_sentencepiece_kinds_can_split_digits(kind: str, corpus: list[str]) -> None:
    tokenizer = train_tokenizer(corpus, TokenizerConfig(kind=kind, vocab_size=600, pattern="digits"))  # type: ignore[arg-type]
    assert [p.name for p in tokenizer.pieces("1999 9")] == ["▁", *"1999", "▁", "9"]


def test_wordpiece_patterns(corpus: list[str]) -> None:
    for pattern, pieces in (("bert", ["a", "-", "a"]), ("whitespace", ["a", "##-", "##a"])):
        tokenizer = train_tokenizer(
            ["a-a b-b a - b"],
            TokenizerConfig(kind="wordpiece", vocab_size=30, pattern=pattern, min_frequency=9),
        )
        assert [p.name for p in tokenizer.pieces("a-a")] == pieces


def test_unigram_without_byte_fallback_has_an_unknown_token(corpus: list[str]) -> None:
    with_bytes = train_tokenizer(corpus, TokenizerConfig(kind="unigram", vocab_size=600))
    without = train_tokenizer(corpus, TokenizerConfig(kind="unigram", vocab_size=600, byte_fallback=False))
    assert without.unknown_id in without.encode("漢字") and with_bytes.unknown_id not in with_bytes.encode(
        "漢字"
    )
    assert with_bytes.decode(with_bytes.encode("漢字")) == "漢字"


def test_no_token_is_longer_than_asked(corpus: list[str]) -> None:
    for kind in KINDS:
        tokenizer = train_tokenizer(corpus, TokenizerConfig(kind=kind, vocab_size=600, max_token_length=4))  # type: ignore[arg-type]
        names = [n for n in tokenizer.vocabulary if n not in tokenizer.special and not n.startswith("<0x")]
        assert max(len(name.removeprefix("##")) for name in names) <= 4


def test_rare_pairs_are_not_merged(corpus: list[str]) -> None:
    small = train_tokenizer(corpus, TokenizerConfig(vocab_size=4000, min_frequency=20))
    large = train_tokenizer(corpus, TokenizerConfig(vocab_size=4000, min_frequency=2))
    assert 280 < small.vocab_size < large.vocab_size < 4000


# --- mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 100}, "vocab_size=100 is too small"),
        ({"kind": "bp"}, "'kind'"),
        ({"normalizer": ("nfx",)}, "'normalizer.0'"),
        ({"pattern": "gtp4"}, "Did you mean 'gpt4'"),
        ({"pattern": "(a+)+$"}, "repeats a group that repeats itself"),
        ({"pattern": "(((("}, "no regular expression"),
        ({"kind": "unigram", "pattern": "gpt4"}, "does not fit kind 'unigram'"),
        ({"special_tokens": ("<a>", "<a>"), "bos": None, "eos": None}, "repeated name"),
        ({"special_tokens": ("<a>", ""), "bos": None, "eos": None}, "empty"),
        ({"bos": "<|begin_of_txt|>"}, r"Did you mean '<\|begin_of_text\|>'"),
        ({"eos": None, "add_eos": True}, "need the token they add"),
        ({"kind": "bpe-fallback", "vocab_size": 280}, "characters alone take"),
        ({"kind": "wordpiece", "vocab_size": 20}, "characters alone take"),
    ],
)
def test_settings_that_contradict_each_other(
    settings: dict[str, Any], message: str, corpus: list[str]
) -> None:
    with pytest.raises(OrreryError, match=message):
        train_tokenizer(corpus, TokenizerConfig(**settings))


def test_misspelt_settings_are_named() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'vocab_size'"):
        resolve(TokenizerConfig, {"vocab_sise": 1000})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nothing", [[], [""], ["", ""]])
def test_no_text_to_train_on(kind: str, nothing: list[str]) -> None:
    with pytest.raises(OrreryError, match="no text to train"):
        train_tokenizer(nothing, TokenizerConfig(kind=kind))  # type: ignore[arg-type]


def test_what_is_no_text_is_named_with_its_number() -> None:
    with pytest.raises(OrreryError, match="training text 1 is bytes"):
        train_tokenizer(["fine", b"no"])  # type: ignore[list-item]
    with pytest.raises(OrreryError, match="training text 2 has a lone surrogate at character 3"):
        train_tokenizer(["fine", "fine", "bad\ud800"])


def test_an_error_in_the_source_comes_through() -> None:
    def broken() -> Iterator[str]:
        yield "some text"
        raise OrreryError("the disk is gone")

    with pytest.raises(OrreryError, match="the disk is gone"):
        train_tokenizer(broken())


# --- long work


def test_progress_is_shown_while_reading_and_merging(corpus: list[str]) -> None:
    class Watcher:
        seen: list[tuple[float, str]] = []  # noqa: RUF012

        def update(self, done: float, total: float | None, **fields: Any) -> None:
            self.seen.append((done, fields["stage"]))

    def slow() -> Iterator[str]:
        for part in corpus[:10]:
            time.sleep(0.03)
            yield part

    train_tokenizer(slow(), TokenizerConfig(vocab_size=300), progress=Watcher())
    assert [done for done, _ in Watcher.seen] == sorted(done for done, _ in Watcher.seen)
    assert Watcher.seen[-1][0] == sum(map(len, corpus[:10]))
    assert {stage for _, stage in Watcher.seen} <= {"reading", "merging"}


def test_long_texts_are_fed_in_parts() -> None:
    line = "the quick brown fox jumps over the lazy dog\n"
    whole = train_tokenizer([line * 60_000], TokenizerConfig(vocab_size=320))
    assert whole.fingerprint == train_tokenizer([line] * 60_000, TokenizerConfig(vocab_size=320)).fingerprint


def test_ctrl_c_answers_at_once() -> None:
    code = (
        "import itertools, sys\n"
        "from orrery.text import train_tokenizer\n"
        "print('ready', flush=True)\n"
        "train_tokenizer(f'number {i} and some more words' for i in itertools.count())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode != 0 and "KeyboardInterrupt" in err and "panicked" not in err
