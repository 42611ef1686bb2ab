"""The tokenizer as a whole: ids and text, special tokens, files, and agreement with transformers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.text import SPECIAL_TOKENS, Tokenizer, TokenizerConfig, train_tokenizer

from .conftest import KINDS, SAMPLES

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LOSSLESS = ("bpe", "bpe-fallback", "unigram")


# --- round trips


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_decoding_brings_the_text_back(kind: str, sample: str, trained: Callable[[str], Tokenizer]) -> None:
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode(sample)) == sample


@settings(max_examples=300, deadline=None)
@given(text)
def test_byte_level_round_trip_of_any_text(bpe: Tokenizer, sample: str) -> None:
    assert bpe.decode(bpe.encode(sample)) == sample


@pytest.mark.parametrize("kind", ["bpe-fallback", "unigram"])
@settings(max_examples=200, deadline=None)
@given(sample=text.filter(lambda t: "▁" not in t))
def test_sentencepiece_style_round_trip_of_any_text_without_its_space_mark(
    kind: str, trained: Callable[[str], Tokenizer], sample: str
) -> None:
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode(sample)) == sample


@pytest.mark.parametrize("kind", LOSSLESS)
def test_any_bytes_round_trip(kind: str, trained: Callable[[str], Tokenizer]) -> None:
    tokenizer = trained(kind)
    every = [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(0, 256, 5) for b in range(256)]
    for data in [*every, b"text \xff\xfe then text \xe2\x82", "whole é".encode(), b""]:
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40))
def test_any_random_bytes_round_trip(bpe: Tokenizer, data: bytes) -> None:
    assert bpe.decode_bytes(bpe.encode_bytes(data)) == data


def test_wordpiece_has_no_token_for_a_byte(trained: Callable[[str], Tokenizer]) -> None:
    with pytest.raises(OrreryError, match="byte 0xff"):
        trained("wordpiece").encode_bytes(b"\xff")


def test_an_unseen_word_is_spelled_with_known_pieces(trained: Callable[[str], Tokenizer]) -> None:
    for kind in KINDS:
        tokenizer = trained(kind)
        common, rare = tokenizer.encode("text"), tokenizer.encode("unwrapability")
        assert tokenizer.unknown_id not in rare
        assert len(rare) > len(common)
        assert tokenizer.decode(rare) == "unwrapability"


# --- ids


def test_names_and_ids_are_one_to_one(tokenizer: Tokenizer) -> None:
    ids = list(tokenizer.vocabulary.values())
    assert ids == list(range(tokenizer.vocab_size)) and len(tokenizer) == tokenizer.vocab_size
    for name, i in tokenizer.vocabulary.items():
        assert tokenizer.name(i) == name and tokenizer.id(name) == i and name in tokenizer


@pytest.mark.parametrize("bad", [-1, 700, 10**12])
def test_an_id_out_of_range_is_refused(tokenizer: Tokenizer, bad: int) -> None:
    for use in (
        tokenizer.name,
        tokenizer.token_bytes,
        lambda i: tokenizer.decode([i]),
        lambda i: tokenizer.decode_bytes([i]),
    ):
        with pytest.raises(OrreryError, match=f"{bad} is not a token id"):
            use(bad)


def test_ids_may_come_as_any_whole_numbers(bpe: Tokenizer) -> None:
    ids = bpe.encode("some text")
    for form in (
        tuple(ids),
        np.array(ids, np.uint16),
        np.array(ids, np.int64),
        [np.int64(i) for i in ids],
        iter(ids),
    ):
        assert bpe.decode(form) == "some text"
    with pytest.raises(OrreryError, match="whole numbers"):
        bpe.decode([1.5])  # type: ignore[list-item]


def test_no_token_of_an_unknown_name(bpe: Tokenizer) -> None:
    with pytest.raises(OrreryError, match=r"Did you mean '<\|user\|>'"):
        bpe.id("<|usr|>")


# --- special tokens


def test_special_names_in_text_stay_text(tokenizer: Tokenizer) -> None:
    control = set(tokenizer.special.values()) - {tokenizer.unknown_id}
    for name in (
        *tokenizer.special,
        "".join(tokenizer.special),
        " ".join(tokenizer.special),
        "a<|user|>b<|end|>",
    ):
        assert not control & set(tokenizer.encode(name))
        assert not control & set(tokenizer.encode_batch([name])[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from([*SPECIAL_TOKENS, "<unk>", "[UNK]"]) | st.text("<|>_ aſ\n▁#x\uffff", max_size=4),
        max_size=6,
    )
)
def test_no_text_whatever_makes_a_special_id(
    kind: str, trained: Callable[[str], Tokenizer], parts: list[str]
) -> None:
    tokenizer = trained(kind)
    control = set(tokenizer.special.values()) - {tokenizer.unknown_id}
    assert not control & set(tokenizer.encode("".join(parts)))


def test_allow_parses_special_names(tokenizer: Tokenizer) -> None:
    user, end = tokenizer.special["<|user|>"], tokenizer.special["<|end|>"]
    ids = tokenizer.encode("<|user|>text<|end|>", special="allow")
    assert ids == [user, *tokenizer.encode("text"), end]
    assert [ids == b.tolist() for b in tokenizer.encode_batch(["<|user|>text<|end|>"], special="allow")] == [
        True
    ]
    with pytest.raises(OrreryError, match="'never' or 'allow'"):
        tokenizer.encode("x", special="yes")  # type: ignore[arg-type]


def test_special_tokens_can_be_left_out_of_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("text", bos=True, eos=True)
    assert tokenizer.decode(ids, special=False) == "text"
    assert tokenizer.decode_bytes(ids, special=False) == b"text"
    assert tokenizer.decode(ids).startswith("<|begin_of_text|>")


def test_bos_and_eos_are_added_once(bpe: Tokenizer) -> None:
    assert bpe.bos_id is not None and bpe.eos_id is not None
    ids = bpe.encode("x", bos=True, eos=True)
    assert ids == [bpe.bos_id, *bpe.encode("x"), bpe.eos_id]
    with pytest.raises(OrreryError, match="already begin with BOS"):
        bpe.wrap(ids, bos=True)
    with pytest.raises(OrreryError, match="already end with EOS"):
        bpe.wrap(ids, eos=True)
    with pytest.raises(OrreryError, match="already begin with BOS"):
        bpe.encode("<|begin_of_text|>x", special="allow", bos=True)
    assert bpe.encode("<|begin_of_text|>x", bos=True)[0] == bpe.bos_id  # here the name is plain text


def test_a_tokenizer_without_bos_says_so(corpus: list[str]) -> None:
    tokenizer = train_tokenizer(
        corpus, TokenizerConfig(vocab_size=300, special_tokens=("<x>",), bos=None, eos=None)
    )
    assert tokenizer.bos_id is None and tokenizer.eos_id is None
    for name in ("bos", "eos"):
        with pytest.raises(OrreryError, match=f"has no {name.upper()} token"):
            tokenizer.encode("x", **{name: True})  # type: ignore[arg-type]
    with pytest.raises(OrreryError, match=r"has no <\|fim_prefix\|>"):
        tokenizer.encode_fim("a", "b")


def test_fill_in_the_middle_orders(bpe: Tokenizer) -> None:
    pre, mid, suf = (bpe.special[f"<|fim_{part}|>"] for part in ("prefix", "middle", "suffix"))
    a, b = bpe.encode("def f("), bpe.encode("return x")
    assert bpe.encode_fim("def f(", "return x") == [pre, *a, suf, *b, mid]
    assert bpe.encode_fim("def f(", "return x", order="spm") == [pre, suf, *b, mid, *a]


def test_added_tokens_take_new_ids(tokenizer: Tokenizer) -> None:
    more = tokenizer.add_tokens(["<|a|>", "<|b|>"], special=True)
    assert more.vocab_size == tokenizer.vocab_size + 2
    assert (more.id("<|a|>"), more.id("<|b|>")) == (tokenizer.vocab_size, tokenizer.vocab_size + 1)
    assert more.encode("text <|a|>", special="allow")[-1] == more.id("<|a|>")
    assert more.id("<|a|>") not in more.encode("text <|a|>")
    assert more.encode("plain text") == tokenizer.encode("plain text")
    assert more.decode([more.id("<|b|>")]) == "<|b|>"
    assert more.fingerprint != tokenizer.fingerprint
    for names in (["<|user|>"], ["x<", "x<"], [""]):
        with pytest.raises(OrreryError, match="cannot add tokens"):
            tokenizer.add_tokens(names)


def test_an_added_token_that_is_not_special_is_found_in_any_text(tokenizer: Tokenizer) -> None:
    more = tokenizer.add_tokens(["zyzzyva"])
    assert more.id("zyzzyva") in more.encode("a zyzzyva here")
    assert more.encode_batch(["a zyzzyva"] * 2)[1].tolist() == more.encode("a zyzzyva")


# --- offsets


def test_offsets_of_byte_level_bpe_tile_the_text(bpe: Tokenizer) -> None:
    for sample in SAMPLES:
        at = 0
        for _, start, end in bpe.offsets(sample):
            assert start <= at <= end  # the parts of one character share its place
            at = end
        assert at == len(sample)


def test_pieces_say_what_they_cover(bpe: Tokenizer) -> None:
    pieces = bpe.pieces("a café")
    assert [p.id for p in pieces] == bpe.encode("a café")
    assert b"".join(p.bytes for p in pieces) == "a café".encode()
    assert pieces[0].name == "a" and (pieces[0].start, pieces[0].end) == (0, 1)


# --- batches


def test_a_batch_equals_one_by_one(tokenizer: Tokenizer, corpus: list[str]) -> None:
    for threads in (None, 1, 3):
        batch = tokenizer.encode_batch(corpus, threads=threads)
        assert all(ids.dtype == np.uint32 for ids in batch)
        assert [ids.tolist() for ids in batch] == [tokenizer.encode(part) for part in corpus]
    assert tokenizer.encode_batch([]) == []


def test_what_is_no_text_is_refused_with_the_place(tokenizer: Tokenizer) -> None:
    for bad, message in (
        (b"bytes", "not bytes"),
        (None, "not NoneType"),
        ("a\ud800b", r"U\+D800\) at character 1"),
    ):
        with pytest.raises(OrreryError, match=message):
            tokenizer.encode(bad)  # type: ignore[arg-type]
        with pytest.raises(OrreryError, match=message):
            tokenizer.encode_batch(["fine", bad])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "run", ["^" * 100_000, "a" * 300_000, "\u0301" * 50_000, " " * 100_000, "1" * 100_000]
)
def test_long_runs_cost_no_more_than_their_length(tokenizer: Tokenizer, run: str) -> None:
    ids = tokenizer.encode(run)
    assert len(ids) <= len(run.encode()) + 1
    assert tokenizer.encode_batch([run])[0].tolist() == ids


# --- files


def test_saving_and_loading_changes_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "new" / "folder")
    for path in (tmp_path / "new" / "folder", tmp_path / "new" / "folder" / "tokenizer.json"):
        again = Tokenizer.load(path)
        assert again.fingerprint == tokenizer.fingerprint
        assert (again.bos_id, again.eos_id, again.special) == (
            tokenizer.bos_id,
            tokenizer.eos_id,
            tokenizer.special,
        )
        assert [again.encode(s) for s in SAMPLES] == [tokenizer.encode(s) for s in SAMPLES]
    tokenizer.save(tmp_path)  # into a folder that is there
    assert Tokenizer.load(tmp_path).fingerprint == tokenizer.fingerprint


def test_it_travels_to_other_processes(tokenizer: Tokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.fingerprint == tokenizer.fingerprint and again.encode("some text") == tokenizer.encode(
        "some text"
    )


def test_a_path_with_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(OrreryError, match="no file at"):
        Tokenizer.load(tmp_path / "nowhere")


def test_transformers_reads_the_folder_and_gives_the_same_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for sample in SAMPLES:
        assert theirs(sample)["input_ids"] == tokenizer.encode(sample, special="allow")
    assert (theirs.bos_token_id, theirs.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert len(theirs) == tokenizer.vocab_size
    for sample in SAMPLES[:8]:
        ids = tokenizer.encode(sample)
        assert theirs.decode(ids) == tokenizer.decode(ids)


def test_transformers_reads_it_beside_a_llama_config(bpe: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    bpe.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": bpe.vocab_size}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for sample in SAMPLES:
        assert theirs(sample)["input_ids"] == bpe.encode(sample, special="allow")


@pytest.mark.parametrize(("add_bos", "add_eos"), [(True, False), (False, True), (True, True)])
def test_other_tools_add_bos_and_eos_when_the_tokenizer_says_so(
    add_bos: bool, add_eos: bool, corpus: list[str], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer = train_tokenizer(corpus, TokenizerConfig(vocab_size=400, add_bos=add_bos, add_eos=add_eos))
    assert tokenizer.adds == (add_bos, add_eos)
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("some text")["input_ids"] == tokenizer.encode("some text", bos=add_bos, eos=add_eos)
