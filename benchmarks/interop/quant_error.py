"""How far from the weights are our quantised blocks, and how far are llama.cpp's?

The same float rows are quantised by `orrery.model.quant.quantize` and by `ggml_quantize_chunk` of llama.cpp, both are read
back by the gguf package, and the root mean square errors are compared: a ratio below 1 means ours lie closer. "large" is the
ratio of the errors weighted by the square of the number itself, the errors of large weights.

llama.cpp comes with the package llama-cpp-python, which is built from source (some minutes, a C++ compiler). Any
environment will do; only its libggml-base is loaded, by its path:

    python -m venv lcp && lcp/bin/pip install llama-cpp-python==0.3.36
    python benchmarks/interop/quant_error.py --library lcp/lib/python3.*/site-packages/llama_cpp/lib/libggml-base.so

Rows: normal, Laplace and Student-t (3 degrees of freedom: heavy tails), all seeded; with --gguf FILE also the file's own
Q8_0 matrices, read back and quantised again; with --safetensors FILE its matrices in full precision. Where a matrix's rows
are not whole blocks of 256, its numbers are cut into rows of 256 as they come.
With --importance, columns have random importances (the squares of normal numbers) and the error is weighted by them.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch

from orrery.model.quant import FORMATS, quantize

KINDS = [kind for kind in FORMATS if kind not in ("F32", "F16", "BF16", "TQ1_0", "TQ2_0")]


def llama_cpp(library: ctypes.CDLL, rows: np.ndarray, kind: str, importance: np.ndarray | None) -> np.ndarray:
    """(R, n) float32 -> (R, bytes per row) uint8, by llama.cpp."""
    number = int(gguf.GGMLQuantizationType[kind])
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    out = np.zeros((len(rows), rows.shape[1] // block * size), dtype=np.uint8)
    pointer = ctypes.c_void_p(None if importance is None else importance.ctypes.data)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    written = library.ggml_quantize_chunk(
        ctypes.c_int(number),
        ctypes.c_void_p(rows.ctypes.data),
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_int64(0),
        ctypes.c_int64(len(rows)),
        ctypes.c_int64(rows.shape[1]),
        pointer,
    )
    assert written == out.size, (kind, written, out.size)
    return out


def errors(
    rows: np.ndarray, raw: np.ndarray, kind: str, importance: np.ndarray | None
) -> tuple[float, float]:
    """The roots of the mean square error (weighted by the importance) and of that weighted by the numbers' squares."""
    read = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    square = (read.astype(np.float64) - rows) ** 2
    weights = np.ones(rows.shape[1]) if importance is None else importance.astype(np.float64)
    plain = np.sqrt((square * weights).sum() / (weights.sum() * len(rows)))
    large = np.sqrt((square * rows**2).sum() / (rows.astype(np.float64) ** 2).sum())
    return float(plain), float(large)


def synthetic() -> Iterator[tuple[str, np.ndarray]]:
    """Three distributions, 512 rows of 1024."""
    rng = np.random.default_rng(0)
    for name, draw in (
        ("normal", rng.standard_normal),
        ("Laplace", lambda size: rng.laplace(size=size)),
        ("Student-t 3", lambda size: rng.standard_t(3, size=size)),
    ):
        yield name, draw((512, 1024)).astype(np.float32)


def whole_rows(matrix: np.ndarray, limit: int = 1 << 20) -> np.ndarray:
    """At most `limit` numbers of a matrix, in rows of whole 256-blocks."""
    width = matrix.shape[1] if matrix.shape[1] % 256 == 0 else 256
    flat = np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1)[:limit]
    return flat[: len(flat) // width * width].reshape(-1, width)


def from_gguf(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The Q8_0 matrices of a file, as one set of rows for each width."""
    parts = [
        whole_rows(gguf.quants.dequantize(np.array(t.data[:4096]), t.tensor_type))
        for t in gguf.GGUFReader(path).tensors
        if t.tensor_type.name == "Q8_0"
    ]
    yield from gathered(path.name, parts)


def from_safetensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The matrices of a file, as one set of rows for each width."""
    from safetensors.torch import load_file

    parts = [
        whole_rows(t.float().numpy()) for t in load_file(path).values() if t.ndim == 2 and t.numel() > 65536
    ]
    yield from gathered(path.name, parts)


def gathered(name: str, parts: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for width in sorted({part.shape[1] for part in parts}):
        yield f"{name}, rows of {width}", np.concatenate([part for part in parts if part.shape[1] == width])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", type=Path, required=True, help="libggml-base of llama.cpp")
    parser.add_argument("--gguf", type=Path, help="also the Q8_0 matrices of this file")
    parser.add_argument("--safetensors", type=Path, help="also the matrices of this file")
    parser.add_argument("--importance", action="store_true", help="weigh the columns")
    args = parser.parse_args()
    library = ctypes.CDLL(str(args.library.resolve()))
    sources = list(synthetic())
    if args.gguf:
        sources += from_gguf(args.gguf)
    if args.safetensors:
        sources += from_safetensors(args.safetensors)
    for name, rows in sources:
        power = np.sqrt(np.mean(rows.astype(np.float64) ** 2))
        importance = None
        if args.importance:
            importance = np.random.default_rng(1).standard_normal(rows.shape[1]).astype(np.float32) ** 2
        print(f"\n{name}: {rows.shape[0]} x {rows.shape[1]}, errors relative to the rows' root mean square")
        print(f"{'kind':8} {'bits':>7} {'ours':>10} {'llama.cpp':>10} {'ratio':>7} {'large':>7}")
        for kind in KINDS:
            column = None if importance is None else torch.from_numpy(importance)
            ours = quantize(torch.from_numpy(rows), kind, column).numpy()
            theirs = llama_cpp(library, rows, kind, importance)
            (a, large), (b, their_large) = (errors(rows, raw, kind, importance) for raw in (ours, theirs))
            ratio, of_large = (x / y if y else 1.0 for x, y in ((a, b), (large, their_large)))  # 0 / 0: exact
            print(
                f"{kind:8} {FORMATS[kind].bits:7.4g} {a / power:10.6f} {b / power:10.6f} {ratio:7.4f} {of_large:7.4f}"
            )


if __name__ == "__main__":
    main()
