"""GGUF, the one-file format of llama.cpp: typed metadata, then tensors, many of them in quantised blocks.

    header      "GGUF", version, number of tensors, number of keys
    metadata    key, type, value - architecture, hyper-parameters, vocabulary, chat template
    directory   per tensor: name, dimensions (fastest first), type, offset into the data
    data        each tensor at a multiple of general.alignment

Versions 2 and 3, little-endian. This is the container only: what the metadata means for a model or a tokenizer, and
what the blocks hold, is said elsewhere. A file is not trusted: each count, length and offset is held against the size
of the file before anything is allocated, and whatever is wrong is one `OrreryError` that names the file, the byte or
key, the rule, and the fix. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from orrery.kit.gguf.blocks import BLOCK_TYPES, BlockType, row_bytes
from orrery.kit.gguf.file import GgufFile
from orrery.kit.gguf.header import GgufTensor
from orrery.kit.gguf.write import Typed, write_gguf

__all__ = ["BLOCK_TYPES", "BlockType", "GgufFile", "GgufTensor", "Typed", "row_bytes", "write_gguf"]
