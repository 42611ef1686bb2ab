"""T5 and its versions against transformers: logits on every path, greedy text, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from orrery.model.cache import Cached, KVCache
from orrery.model.encoder_decoder import EncoderDecoder
from orrery.model.folder import open_model, save_model
from orrery.model.packed import Packed
from tests.model.families.harness import LENGTHS, NEW, TOLERANCE, make, stored, tokens

pytest.importorskip("transformers", reason="the reference models are transformers'")

SMALL: dict[str, Any] = {
    "d_model": 48, "d_kv": 16, "d_ff": 80, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": 0,
}  # fmt: skip


def case(name: str, *, own_head: bool = False, **settings: Any) -> dict[str, Any]:
    model = {"config": f"{name}Config", "model": f"{name}ForConditionalGeneration"}
    return {**model, "settings": {**SMALL, **settings}, "own_head": own_head}


CASES: dict[str, dict[str, Any]] = {
    "t5": case("T5"),
    "t5-v1.1": case("T5", feed_forward_proj="gated-gelu", tie_word_embeddings=False, own_head=True),
    "t5-v1.1-tied": case("T5", feed_forward_proj="gated-silu", tie_word_embeddings=False),
    "mt5": case("MT5", own_head=True),
}
CHECKS = ("logits", "greedy", "written-back")
PASSED: dict[str, list[str]] = {name: [] for name in CASES}


def make_t5(case: dict[str, Any], folder: Path) -> Any:
    """As `make`; a head of its own (published versions 1.1 have one) is what transformers cannot make, only open."""
    model = make(case, folder)
    if case["own_head"]:
        weight = 0.3 * torch.randn(128, 48, generator=torch.Generator().manual_seed(2))
        model.lm_head.weight = nn.Parameter(weight)
        model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=CASES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, make_t5(CASES[request.param], folder), folder


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints family x check (pytest -s)."""
    yield
    print(f"\n{'family':<24}" + "".join(f"{check:<14}" for check in CHECKS))
    for name, passed in PASSED.items():
        print(f"{name:<24}" + "".join(f"{'equal' if check in passed else '-':<14}" for check in CHECKS))


@pytest.mark.parametrize("check", CHECKS)
def test_equal_to_transformers(family: tuple[str, Any, Path], check: str, tmp_path: Path) -> None:
    name, theirs, folder = family
    match check:
        case "logits":
            check_logits(theirs, folder)
        case "greedy":
            check_greedy(theirs, folder)
        case "written-back":
            check_written_back(theirs, folder, tmp_path / "again")
    PASSED[name].append(check)


def sources() -> list[Tensor]:
    """One of each length; the texts written to them have the lengths the other way round."""
    return [tokens(n, seed=1) for n in LENGTHS]


def texts() -> list[Tensor]:
    return [tokens(n) for n in reversed(LENGTHS)]


def their_logits(theirs: Any) -> list[Tensor]:
    with torch.no_grad():
        return [
            theirs(input_ids=source[None], decoder_input_ids=text[None]).logits[0]
            for source, text in zip(sources(), texts(), strict=True)
        ]


def check_logits(theirs: Any, folder: Path) -> None:
    """Each pair alone, all of them packed, and token by token through the cache, the sources encoded once."""
    model, lengths = opened(folder), tuple(reversed(LENGTHS))
    cache = KVCache(model, rows=3, capacity=max(LENGTHS))
    with torch.no_grad():
        alone = []
        for source, text in zip(sources(), texts(), strict=True):
            memory = model.encode(source, Packed([len(source)], causal=False))
            alone.append(model.head(model(text, Packed([len(text)], memory=memory))))
        memory = model.encode(torch.cat(sources()), Packed(LENGTHS, causal=False))
        packed = model.head(model(torch.cat(texts()), Packed(lengths, memory=memory))).split(lengths)
        cached: list[list[Tensor]] = [[], [], []]
        for i in range(max(LENGTHS)):
            rows = [row for row in range(3) if i < lengths[row]]
            step = torch.stack([texts()[row][i] for row in rows])
            logits = model.head(model(step, Cached(cache, [(row, i, 1) for row in rows], memory=memory)))
            for row, one in zip(rows, logits, strict=True):
                cached[row].append(one)
    for i, want in enumerate(their_logits(theirs)):
        for got in (alone[i], packed[i], torch.stack(cached[i])):
            torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=1e-4)


def check_greedy(theirs: Any, folder: Path) -> None:
    """64 tokens, each the most probable, equal to theirs."""
    model, source = opened(folder), tokens(9, seed=3)
    want = theirs.generate(
        source[None], max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=1, eos_token_id=None,
        pad_token_id=0, use_cache=True,
    )[0]  # fmt: skip
    cache, got = KVCache(model, rows=1, capacity=NEW), [model.cfg.start_id]
    with torch.no_grad():
        memory = model.encode(source, Packed([9], causal=False))
        for i in range(NEW):
            hidden = model(torch.tensor(got[-1:]), Cached(cache, [(0, i, 1)], memory=memory))
            got.append(int(model.head(hidden).argmax(-1)))
    assert got == want.tolist()


def check_written_back(theirs: Any, folder: Path, again: Path) -> None:
    """Every tensor comes back under its name, bit for bit, and transformers opens the folder with equal logits."""
    model = opened(folder)
    save_model(model, again)
    before, after = stored(folder), stored(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    reopened = type(theirs).from_pretrained(again).eval()
    for got, want in zip(their_logits(reopened), their_logits(theirs), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert opened(again).cfg == model.cfg


def opened(folder: Path) -> EncoderDecoder:
    model = open_model(folder)
    assert isinstance(model, EncoderDecoder)
    return model


def test_one_embedding_stored_three_times_opens_as_one(tmp_path: Path) -> None:
    """The first files hold the shared table under each stack too, and a table of biases that nothing reads."""
    make_t5(CASES["t5"], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for copy in ("encoder.embed_tokens", "decoder.embed_tokens", "lm_head"):
        tensors[f"{copy}.weight"] = tensors["shared.weight"].clone()
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(8, 4)
    model = opened(tmp_path)
    (tmp_path / "old").mkdir()
    save_file(tensors, tmp_path / "old" / "model.safetensors")
    (tmp_path / "old" / "config.json").write_text((tmp_path / "config.json").read_text())
    again = opened(tmp_path / "old")
    assert again.decoder.embed.weight is again.encoder.embed.weight and again.decoder.lm_head is None
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
