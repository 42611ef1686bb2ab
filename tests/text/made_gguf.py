"""Small vocabularies as the key-value part of GGUF files."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from orrery.text.pieces import CHAR_OF_BYTE

Metadata = dict[str, Any]
PREFIX = "tokenizer.ggml."


def byte_pairs(texts: list[str], **keys: Any) -> Metadata:
    """A vocabulary that joins any two neighbouring bytes of the texts, so that where words are cut shows in the ids."""
    pairs = sorted({(CHAR_OF_BYTE[a], CHAR_OF_BYTE[b]) for text in texts for a, b in pairwise(text.encode())})
    tokens = [*CHAR_OF_BYTE.values(), *(a + b for a, b in pairs), "<|endoftext|>"]
    types = np.ones(len(tokens), np.int32)
    types[-1] = 3
    values = {"tokens": tokens, "token_type": types, "merges": [f"{a} {b}" for a, b in pairs]}
    values |= {"model": "gpt2", "pre": "gpt-2", "eos_token_id": len(tokens) - 1} | keys
    return {PREFIX + key: value for key, value in values.items()}


def llama(pieces: list[tuple[str, float, int]], **keys: Any) -> Metadata:
    """A SentencePiece vocabulary: (text, score, type)."""
    tokens, scores, types = zip(*pieces, strict=True)
    values = {
        "tokens": list(tokens),
        "scores": np.array(scores, np.float32),
        "token_type": np.array(types, np.int32),
    }
    return {PREFIX + key: value for key, value in ({"model": "llama"} | values | keys).items()}


SMALL = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
SMALL += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
SMALL += [("▁a", -1.0, 1), ("ab", -2.0, 1), ("▁ab", -3.0, 1), ("▁", -4.0, 1), ("a", -5.0, 1), ("b", -6.0, 1)]
