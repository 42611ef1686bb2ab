"""Reading blocks: equal to the gguf package, number for number, on random bytes and on a real file; layouts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile
from orrery.model.quant import FORMATS, READABLE, dequantize

KINDS = tuple(READABLE)


def _gguf(raw: np.ndarray, kind: str) -> np.ndarray:
    quants = pytest.importorskip("gguf.quants", reason="the gguf package is the reference")
    from gguf.constants import GGMLQuantizationType

    with np.errstate(all="ignore"):  # random bytes make infinite scales
        return quants.dequantize(raw, GGMLQuantizationType[kind])


def _half(value: float) -> list[int]:
    return list(np.float16(value).tobytes())


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_gguf_package(kind: str) -> None:
    constants = pytest.importorskip("gguf.constants", reason="the gguf package is the reference")
    sizes = constants.GGML_QUANT_SIZES[constants.GGMLQuantizationType[kind]]
    assert (FORMATS[kind].block, FORMATS[kind].size) == tuple(sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_random_bytes_equal_the_gguf_package(kind: str) -> None:
    form = FORMATS[kind]
    per_row = 3 if form.block > 1 else 96
    raw = np.random.default_rng(7).integers(0, 256, (65, 7, per_row * form.size), dtype=np.uint8)
    ours = dequantize(torch.from_numpy(raw), kind)
    assert ours.dtype == torch.float32
    assert ours.shape == (65, 7, per_row * form.block)
    np.testing.assert_array_equal(ours.numpy(), _gguf(raw, kind))  # equal NaNs count as equal


@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_value_everywhere(kind: str) -> None:
    """Block b holds the byte b at every place: no field mixes bits in a way random bytes happen to hide."""
    raw = np.repeat(np.arange(256, dtype=np.uint8)[:, None], FORMATS[kind].size, axis=1)
    np.testing.assert_array_equal(dequantize(torch.from_numpy(raw), kind).numpy(), _gguf(raw, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_and_odd_addresses_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = FORMATS[kind].size
    memory = torch.randint(
        0, 256, (11 * size + 1,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    odd, aligned = memory[1:].view(11, size), memory[1:].clone().view(11, size)
    whole = dequantize(aligned, kind)
    assert torch.equal(dequantize(odd, kind).nan_to_num(), whole.nan_to_num())
    strided = torch.cat((aligned, aligned), dim=1)[:, :size]
    assert torch.equal(dequantize(strided, kind).nan_to_num(), whole.nan_to_num())
    monkeypatch.setattr("orrery.model.quant.codec.PIECE", 2 * FORMATS[kind].block)
    assert torch.equal(dequantize(aligned, kind).nan_to_num(), whole.nan_to_num())


def test_the_result_is_new_memory() -> None:
    raw = torch.zeros(2, 8, dtype=torch.uint8)
    dequantize(raw, "F32").fill_(1.0)
    assert not raw.any()


def test_one_row_and_no_rows() -> None:
    assert dequantize(torch.zeros(36, dtype=torch.uint8), "Q4_0").shape == (64,)
    assert dequantize(torch.zeros(0, 144, dtype=torch.uint8), "Q4_K").shape == (0, 256)
    assert dequantize(torch.zeros(3, 0, dtype=torch.uint8), "Q6_K").shape == (3, 0)


def test_q8_0_by_hand() -> None:
    raw = torch.tensor(_half(0.5) + [1, 255, 127, 128] + [0] * 28, dtype=torch.uint8)
    assert dequantize(raw, "Q8_0")[:5].tolist() == [0.5, -0.5, 63.5, -64.0, 0.0]


def test_q5_1_by_hand() -> None:
    # number 0 is nibble 3 plus the fifth bit, number 16 nibble 2 without, number 31 nibble 0 with it
    fifth, nibbles = (1 | 1 << 31).to_bytes(4, "little"), [0x23] + [0] * 15
    raw = torch.tensor(_half(2.0) + _half(-1.0) + list(fifth) + nibbles, dtype=torch.uint8)
    x = dequantize(raw, "Q5_1")
    assert (x[0], x[16], x[31], x[1]) == (2 * 19 - 1, 2 * 2 - 1, 2 * 16 - 1, -1)


def test_q4_k_by_hand() -> None:
    # sub-block 0: scale 5, offset 6; sub-block 5: scale 0b110011, offset 0b101100; all q of byte 0 and byte 64 are 0x7a
    scales = [5, 0b11_000000, 0, 0, 6, 0b10_000000, 0, 0, 0, 0b1100_0011, 0, 0]
    q = [0] * 128
    q[0], q[64] = 0x7A, 0x7A  # numbers 0 and 32, 128 and 160
    x = dequantize(torch.tensor(_half(0.5) + _half(0.25) + scales + q, dtype=torch.uint8), "Q4_K")
    assert x[0] == 0.5 * 5 * 10 - 0.25 * 6
    assert x[160] == 0.5 * 51 * 7 - 0.25 * 44
    assert x[161] == -0.25 * 44


def test_q6_k_by_hand() -> None:
    low, high, scales = [0] * 128, [0] * 64, [0] * 16
    low[64 + 3], high[32 + 3], scales[8 + 4] = 0x90, 0b11_00_00, 255  # number 128 + 64 + 3, sub-block 12
    raw = torch.tensor(low + high + scales + _half(1.0), dtype=torch.uint8)
    assert dequantize(raw, "Q6_K")[195] == -(9 + 48 - 32)


def test_iq4_xs_by_hand() -> None:
    scales_high = (2 << 6).to_bytes(2, "little")  # sub-block 3: 0b10 above
    scales_low, codes = [0, 0x50, 0, 0], [0] * 128  # ... 0b0101: 37 - 32 = 5
    codes[48] = 0xF1  # numbers 96 and 112
    raw = torch.tensor(_half(0.5) + list(scales_high) + scales_low + codes, dtype=torch.uint8)
    x = dequantize(raw, "IQ4_XS")
    assert (x[96], x[112]) == (0.5 * 5 * -104, 0.5 * 5 * 113)


def test_mxfp4_by_hand() -> None:
    codes = [0x17, 0x9F] + [0] * 14  # 6 and 1/2, -6 and -1/2
    x = dequantize(torch.tensor([129, *codes], dtype=torch.uint8), "MXFP4")
    assert x[[0, 16, 1, 17]].tolist() == [24.0, 2.0, -24.0, -2.0]
    tiny = dequantize(torch.tensor([[0, *codes], [1, *codes]], dtype=torch.uint8), "MXFP4")[:, 0]
    assert tiny.tolist() == [6 * 2.0**-127, 6 * 2.0**-126]


@pytest.mark.parametrize("kind", KINDS)
def test_broken_rows_are_refused(kind: str) -> None:
    size = FORMATS[kind].size
    with pytest.raises(
        OrreryError, match=rf"{kind} stores {FORMATS[kind].block} .* in {size} bytes.*\(2, {size + 1}\)"
    ):
        dequantize(torch.zeros(2, size + 1, dtype=torch.uint8), kind)
    with pytest.raises(OrreryError, match="float32"):
        dequantize(torch.zeros(size), kind)
    with pytest.raises(OrreryError, match=kind):
        dequantize(torch.tensor(1, dtype=torch.uint8), kind)


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(OrreryError, match=r"'IQ2_XXS' is not built.*Q4_K"):
        dequantize(torch.zeros(66, dtype=torch.uint8), "IQ2_XXS")
    with pytest.raises(OrreryError, match="Did you mean 'Q4_K'"):
        dequantize(torch.zeros(144, dtype=torch.uint8), "Q4_k")


def test_every_tensor_of_a_real_file(gemma_gguf: Path) -> None:
    """gemma-3-270m: Q8_0, Q5_0, Q4_K, Q6_K and F32. Every tensor; of large ones every 8th row, of the embedding every 128th."""
    kinds = set()
    with GgufFile.open(gemma_gguf) as file:
        for name, tensor in file.tensors.items():
            step = 128 if name == "token_embd.weight" else 8 if len(tensor.shape) == 2 else 1
            raw = np.array(file.raw(name)[::step])
            ours = dequantize(torch.from_numpy(raw), tensor.type)
            np.testing.assert_array_equal(ours.numpy(), _gguf(raw, tensor.type))
            kinds.add(tensor.type)
    assert kinds == {"F32", "Q8_0", "Q5_0", "Q4_K", "Q6_K"}
