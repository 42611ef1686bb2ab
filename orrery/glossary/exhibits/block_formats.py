"""Exhibits of numbers in few bits, as files of models hold them: blocks, their errors, whole files, and layers that stay quantised."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _prepared, _tiny
from orrery.kit.gguf import GgufFile
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.gguf.read import model_of
from orrery.model.gguf.write import write_model
from orrery.model.lowbit import QuantLinear
from orrery.model.mlp import Mlp
from orrery.model.mxfp4_experts import from_rows, to_rows
from orrery.model.packed import Packed
from orrery.model.quant import FORMATS, dequantize, quantize
from orrery.text.gguf_vocab import gguf_vocab
from orrery.text.gguf_vocab_write import metadata_of_tokenizer
from orrery.train.init import initialize


def block_formats_measured() -> Exhibit:
    """Every block format on the same normal numbers: bits a weight, error, and whether a second trip changes anything."""
    x = torch.randn(64, 512, generator=torch_generator(0, "weights")) * 0.02
    rows = []
    for kind, form in FORMATS.items():
        raw = quantize(x, kind)
        back = dequantize(raw, kind)
        again = dequantize(quantize(back, kind), kind)
        error = ((back - x).square().mean() / x.square().mean()).sqrt().item()
        rows.append(
            (
                kind,
                form.block,
                form.size,
                form.bits,
                f"{error:.2%}",
                f"{((again - back).norm() / x.norm()).item():.2%}",
            )
        )
    return Exhibit(
        title="64 rows of 512 normal numbers; error: root mean square of the difference, of the numbers' own",
        columns=("format", "numbers in a block", "bytes", "bits a number", "error", "change by a second trip"),
        rows=rows,
        reads="A bit more halves the error, roughly. At equal bits the K formats, which keep scales of scales in blocks of 256, do better than "
        "the simple ones of 32. One and a half bits of {-1, 0, 1} are for models trained to have such weights, and ruin others.",
    )  # fmt: skip


def four_bits_by_group() -> Exhibit:
    """Four bits, one scale a group of 32, with and without an offset (Q4_0, Q4_1), on centred and on shifted numbers, and one group for a row."""
    generator = torch_generator(0, "groups")
    centred = torch.randn(64, 512, generator=generator)
    cases = {
        "normal": centred,
        "normal plus 2": centred + 2,
        "one column in 128 ten times as large": centred
        * torch.where(torch.arange(512) % 128 == 0, 10.0, 1.0),
    }
    rows = []
    for name, x in cases.items():
        errors = [
            ((dequantize(quantize(x, kind), kind) - x).norm() / x.norm()).item()
            for kind in ("Q4_0", "Q4_1", "Q4_K")
        ]
        step = x.abs().amax(1, keepdim=True) / 7  # one scale for a whole row, for comparison
        errors.append((((x / step).round().clamp(-8, 7) * step - x).norm() / x.norm()).item())
        rows.append((name, *(f"{error:.1%}" for error in errors)))
    group = quantize(centred[:1, :32], "Q4_1")[0]
    scale, low = group[:4].view(torch.float16).float().tolist()
    low_codes, high_codes = group[4:] & 15, group[4:] >> 4
    by_hand = torch.cat((low_codes, high_codes)) * scale + low
    same = torch.equal(by_hand, dequantize(group[None], "Q4_1")[0])
    return Exhibit(
        title="Relative error of 64 rows of 512 numbers",
        columns=("numbers", "Q4_0: scale", "Q4_1: scale and least", "Q4_K", "four bits, a scale a row"),
        rows=rows,
        reads=f"A group of 32 is 20 bytes in Q4_1: a scale ({scale:.3f}), the least number ({low:.3f}), and two codes of four bits in each of 16 "
        f"bytes; code times scale plus least gives what the reader gives: {same}. Small groups keep an outlier's harm to its 31 neighbours, an offset "
        "serves numbers that do not lie around zero.",
    )  # fmt: skip


def mxfp4_by_hand() -> Exhibit:
    """One block of 32 numbers in MXFP4: its power of two, its codes, what comes back; and the two layouts files use."""
    x = torch.tensor(
        [0.0, 0.1, -0.3, 0.5, 0.8, 1.1, -1.4, 2.0, 2.6, 3.3, 4.4, -5.1, 7.0, -9.5, 12.0, 0.02] * 2
    )
    raw = quantize(x[None], "MXFP4")[0]
    exponent, back = int(raw[0]), dequantize(raw[None], "MXFP4")[0]
    names = ("0", "1/2", "1", "3/2", "2", "3", "4", "6")
    rows = []
    for j in range(16):
        code = int(raw[1 + j] & 15)
        rows.append((x[j].item(), f"{code:04b}", ("-" if code & 8 else "") + names[code & 7], back[j].item()))
    experts = torch.randn(2, 64, 96, generator=torch_generator(0, "mxfp4"))
    stored = quantize(experts, "MXFP4")
    blocks, scales = from_rows(stored, gated=True)
    same = torch.equal(to_rows(blocks, scales, gated=True), stored)
    bits = 8 * (blocks.numel() + scales.numel()) / experts.numel()
    return Exhibit(
        title=f"Exponent byte {exponent}: every magnitude times 2^({exponent} - 127); the first 16 of 32",
        columns=("number", "code", "magnitude", "comes back"),
        rows=rows,
        reads=f"{bits} bits a number, {raw.numel()} bytes a block. A stack of experts is kept by gpt-oss as blocks and scales apart, {tuple(blocks.shape)} "
        f"and {tuple(scales.shape)} for {tuple(experts.shape)} weights, by GGUF as scale and block in turn; from one to the other and back, all bytes "
        f"equal: {same}.",
    )  # fmt: skip


def _model() -> Decoder:
    """Two layers 256 wide with the small tokenizer's vocabulary: rows divide into blocks of 256."""
    tokenizer = _prepared.tokenizer()
    return Decoder(
        _tiny.shape(vocab_size=tokenizer.vocab_size, d_model=256, n_heads=4, n_kv_heads=2, feed_forward=Mlp(d_ff=512))
    ).eval()  # fmt: skip


def gguf_written_and_read() -> Exhibit:
    """A small decoder with its tokenizer written as GGUF in several mixtures, opened again with its blocks kept, and asked for logits."""
    model, tokenizer = _model(), _prepared.tokenizer()
    initialize(model, "xavier")
    ids = torch.tensor(tokenizer.encode("def area(width, height):\n    return width * height\n"))
    vocabulary = metadata_of_tokenizer(tokenizer, chat_template=None)
    rows: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        whole = model.head(model(ids, Packed([len(ids)]))).log_softmax(-1)
        for kind in ("f32", "bf16", "q8_0", "q6_k", "q4_k_m", "q2_k"):
            path = Path(temporary) / f"{kind}.gguf"
            write_model(path, model, kind=kind, name="tiny", vocabulary=vocabulary)
            with GgufFile.open(path) as file:
                types = sorted({tensor.type for tensor in file.tensors.values()})
                same_ids = gguf_vocab(file.metadata).tokenizer.encode("x = area(3, 4)") == tokenizer.encode(
                    "x = area(3, 4)"
                )
                keys = len(file.metadata)
                opened: Any = model_of(file).eval()
            logits = opened.head(opened(ids, Packed([len(ids)]))).log_softmax(-1)
            kl = (whole.exp() * (whole - logits)).sum(-1).mean().item()
            rows.append((kind, path.stat().st_size / 2**20, " ".join(types), keys, same_ids, f"{kl:.1e}"))
    return Exhibit(
        title=f"{model.num_parameters():,} untrained weights, {tokenizer.vocab_size} tokens",
        columns=("mixture", "MiB", "types of tensors", "keys", "equal ids", "KL of the next token, nats"),
        rows=rows,
        reads="One file holds the shape, the weights and the vocabulary. A mixture's name is that of most of its matrices: norms stay in 32 bits, and "
        "the table of tokens, which is also the head here, gets more bits than the rest.",
    )  # fmt: skip


def layers_kept_in_blocks() -> Exhibit:
    """A matrix that stays quantised in memory: its bytes, what its products are off by, and whether a row depends on its batch."""
    generator = torch_generator(0, "layer")
    weight, x = torch.randn(256, 512, generator=generator) * 0.05, torch.randn(16, 512, generator=generator)
    exact, rows = x @ weight.T, []
    for kind in ("Q8_0", "Q6_K", "Q5_0", "Q4_K"):
        layer = QuantLinear.from_blocks(quantize(weight, kind), kind)
        y = layer(x)
        alone = torch.cat([layer(row[None]) for row in x])
        of_weights = (x @ layer.dequantized().T - exact).norm() / exact.norm()
        of_inputs = (y - x @ layer.dequantized().T).norm() / exact.norm()
        same = torch.equal(layer.blocks(), quantize(weight, kind))
        rows.append(
            (kind, layer.blocks().numel(), weight.numel() * 4, f"{of_weights:.2%}", f"{of_inputs:.2%}", torch.equal(y, alone), same)
        )  # fmt: skip
    return Exhibit(
        title="256 by 512, inputs rounded to 8 bits by blocks of 32, sums in integers",
        columns=("format", "bytes", "in fp32", "off by weights", "by inputs", "row equal alone", "bytes come back"),
        rows=rows,
        reads="Generating one token reads every weight once, so bytes are time. The inputs' rounding adds less than that of four-bit weights. Sums "
        "are of integers inside a block and in one order across blocks, so a token's result does not depend on who shares its batch.",
    )  # fmt: skip
