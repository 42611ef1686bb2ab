"""Damaged vocabularies in GGUF files: every fault is one error that names the key."""

from __future__ import annotations

import random

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.text.gguf_keys import KINDS, ROLES
from orrery.text.gguf_vocab import gguf_vocab, tokenizer_from_gguf

from .made_gguf import PREFIX, SMALL, Metadata, byte_pairs, llama

FLAGS = ("add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces")
HUGE = (1 << 32) - 1
FAULTS: list[tuple[Metadata, str]] = [
    ({"model": None}, r"ggml\.model is missing"),
    ({"model": 7}, r"ggml\.model must be a string, not 7"),
    ({"model": "lama"}, r"ggml\.model is 'lama'.*gpt2, llama.*Did you mean 'llama'"),
    ({"tokens": None}, r"ggml\.tokens is missing"),
    ({"tokens": "abc"}, r"ggml\.tokens must be a list of strings, not 'abc'"),
    ({"tokens": ["a", 3]}, r"ggml\.tokens must be a list of strings"),
    ({"tokens": []}, r"ggml\.tokens holds 0 tokens"),
    ({"tokens": ["a"] * 265}, r"ggml\.tokens: ids 0 and 1 are both 'a'"),
    ({"token_type": np.ones(264, np.int32)}, r"ggml\.token_type has 264 entries for 265 tokens"),  # GG-34
    ({"token_type": np.ones(265)}, r"ggml\.token_type must be a list of whole numbers"),
    ({"scores": None}, r"ggml\.scores is missing"),
    ({"scores": np.zeros(300, np.float32)}, r"ggml\.scores has 300 entries for 265 tokens"),  # GG-34
    ({"scores": ["x"] * 265}, r"ggml\.scores must be a list of numbers"),
    ({"scores": np.full(265, np.nan)}, r"ggml\.scores: token 0 has the score nan"),
    ({"scores": np.full(265, -np.inf)}, r"ggml\.scores: token 0 has the score -inf"),
    ({"bos_token_id": HUGE}, r"ggml\.bos_token_id is 4294967295, but the vocabulary has 265"),  # GG-36
    ({"eos_token_id": HUGE}, r"ggml\.eos_token_id is 4294967295"),
    ({"unknown_token_id": HUGE}, r"ggml\.unknown_token_id is 4294967295"),
    ({"padding_token_id": -1}, r"ggml\.padding_token_id is -1"),
    ({"eos_token_id": "2"}, r"ggml\.eos_token_id must be a whole number, not '2'"),
    ({"eos_token_id": True}, r"ggml\.eos_token_id must be a whole number"),
    ({"add_bos_token": 2}, r"ggml\.add_bos_token must be a bool, not 2"),
    ({"add_space_prefix": "yes"}, r"ggml\.add_space_prefix must be a bool"),
    (
        {"precompiled_charsmap": np.full(9, 255, np.uint8)},
        r"ggml\.precompiled_charsmap says that it is longer",
    ),
    ({"model": "gpt2"}, r"ggml\.merges is missing"),
    ({"model": "gpt2", "merges": ["ab"]}, r"ggml\.merges: entry 0, 'ab', is not two tokens"),
    ({"model": "gpt2", "merges": ["a b", "a c"]}, r"ggml\.merges: entry 1, 'a c'"),
    ({"model": "gpt2", "merges": ["a b"] * 80000}, r"ggml\.merges has 80000 entries for 265 tokens"),
    (
        {"model": "gpt2", "merges": ["a b"], "pre": "qwen3000"},
        r"ggml\.pre names the pre-tokenizer 'qwen3000'.*qwen2",
    ),
    (
        {"model": "gpt2", "merges": ["a b"], "add_eos_token": True},
        r"ggml\.add_eos_token asks .*eos_token_id is missing",
    ),
    ({"tokens": [f"{i}" * 4000 for i in range(265)]}, r"pieces up to 12000 characters long"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=range(len(FAULTS)))
def test_damaged_metadata(change: Metadata, message: str) -> None:
    metadata = llama(SMALL) | {PREFIX + key: value for key, value in change.items()}
    with pytest.raises(OrreryError, match=message):
        gguf_vocab({key: value for key, value in metadata.items() if value is not None})


def test_a_template_of_another_type() -> None:
    with pytest.raises(OrreryError, match=r"tokenizer\.chat_template must be a string, not a list of 1"):
        gguf_vocab(llama(SMALL) | {"tokenizer.chat_template": ["x"]})


@pytest.mark.parametrize("seed", range(4))
def test_mutated_metadata_is_read_or_refused(seed: int) -> None:
    """Wrong types, lengths, ids and texts anywhere: an error with a reason, or a tokenizer that works."""
    draw = random.Random(seed)
    odd = [
        0,
        -1,
        HUGE,
        True,
        "",
        "x",
        [],
        ["a"],
        ["a", "a"],
        [1.5],
        np.zeros(3),
        float("nan"),
        {},
        b"x",
        ["a b"],
    ]
    texts = ["a", "", "▁", "<s>", "</s>", "<0x41>", "[PAD6]", "##", "\x00", "<|im_end|>", "ab" * 50]
    keys = [
        PREFIX + key
        for key in (*ROLES.values(), *FLAGS, "pre", "model", "merges", "scores", "precompiled_charsmap")
    ]
    outcomes = set()
    for _ in range(150):
        metadata = dict(
            draw.choice([llama(SMALL), byte_pairs(["a ab é"]), llama(SMALL[:3] + SMALL[259:], model="t5")])
        )
        for _ in range(draw.randint(1, 3)):
            tokens, types = [*metadata[PREFIX + "tokens"]], metadata[PREFIX + "token_type"].copy()
            tokens[draw.randrange(len(tokens))] = draw.choice(texts)
            types[draw.randrange(len(types))] = draw.randint(-1, 8)
            metadata |= {PREFIX + "tokens": tokens, PREFIX + "token_type": types}
            metadata[draw.choice(keys)] = draw.choice([*odd, draw.randrange(9), draw.choice(list(KINDS))])
        try:
            tokenizer = tokenizer_from_gguf(metadata)
        except OrreryError as error:
            outcomes.add("refused")
            assert str(error)
            continue
        outcomes.add("read")
        for text in ("a ab <s> </s>", "é\n\n  "):
            tokenizer.decode(tokenizer.encode(text) + tokenizer.encode(text, special="allow"))
    assert outcomes == {"read", "refused"}
