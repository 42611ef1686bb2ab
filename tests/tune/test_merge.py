"""Merging adapters into a model: the folder, the report, the receipt, several at once, GGUF bases, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import orrery
from orrery.cli import app
from orrery.kit.artifact import lineage, read_receipt, verify, write_receipt
from orrery.kit.errors import OrreryError
from orrery.model import Decoder
from orrery.model.adapters import Adapter, Ia3, Lora, Prompt, merge_adapters, new_adapter
from orrery.model.adapters.folder import save_adapter
from orrery.serve.convert import convert
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.tune.merge import logits_with, mean_kl, merge
from tests.serve.conftest import lm, save_lm, tiny_model, tokenizer

__all__ = ["lm", "save_lm", "tokenizer"]


def trained(model: Decoder, seed: int, **settings: object) -> Adapter:
    adapter = new_adapter(
        model, Lora(**{"rank": 2, "targets": ("q_proj", "down_proj"), **settings}), seed=seed
    )  # type: ignore[bad-argument-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapter


@pytest.fixture
def base(lm: LM, save_lm: Callable[[LM, Path], Path], tmp_path: Path) -> Path:
    return save_lm(LM(model=tiny_model(lm.tokenizer.vocab_size), tokenizer=lm.tokenizer), tmp_path / "base")


def test_the_merged_model_is_the_adapted_one_and_says_where_it_comes_from(base: Path, tmp_path: Path) -> None:
    model = orrery.load(base).model
    adapter = trained(model, 1, dora=True)
    save_adapter(adapter, model, tmp_path / "adapter")
    ChatFormat(orrery.load(base).tokenizer).save(tmp_path / "adapter")
    write_receipt(tmp_path / "adapter", kind="adapter", operation="tune", parents={"model": base})
    report = merge(base, [(tmp_path / "adapter", 1.0)], tmp_path / "merged", kind="f32")
    assert report.from_adapted[0] < 1e-6 and report.largest < 1e-2 and report.from_base > 1e-3
    made = orrery.load(tmp_path / "merged")
    assert made.chat is not None and set(made.chat.stop_ids) <= set(made.stop_ids)
    ids = [3, 4, 5, 6, 7]
    want = logits_with(orrery.load(base).model, adapter, torch.tensor(ids))
    torch.testing.assert_close(made.logits(ids), want, atol=1e-3, rtol=1e-3)
    receipt = read_receipt(tmp_path / "merged")
    assert receipt.operation == "merge" and {p.role for p in receipt.parents} == {"model", "adapter"}
    assert receipt.effects["from_base"] == report.from_base and verify(tmp_path / "merged") == []
    assert [a.state for a in lineage(tmp_path / "merged")] == ["here"] * 4
    rounded = merge(base, [(tmp_path / "adapter", 1.0)], tmp_path / "rounded", kind="bf16")
    assert report.from_adapted[0] < rounded.from_adapted[0] < 0.05 * rounded.from_base


def test_several_are_added_with_their_weights(base: Path, tmp_path: Path) -> None:
    """W + 0.5 (W_1 - W) + 0.25 (W_2 - W), of which the second scales rows."""
    model = orrery.load(base).model
    first, second = trained(model, 1), new_adapter(model, Ia3(targets=("q_proj",), feedforward=()))
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.mul_(3.0)
    before = model.blocks[0].attn.q_proj.weight.detach().clone()
    delta = first.parts["blocks.0.attn.q_proj"].delta()  # type: ignore[missing-attribute]
    for name, adapter in (("one", first), ("two", second)):
        save_adapter(adapter, model, tmp_path / name)
    folders = [(tmp_path / "one", 0.5), (tmp_path / "two", 0.25)]
    report = merge(base, folders, tmp_path / "merged", kind="f32")
    assert len(report.from_adapted) == 2 and min(report.from_adapted) > 1e-4
    got = orrery.load(tmp_path / "merged").model.blocks[0].attn.q_proj.weight
    torch.testing.assert_close(got, before + 0.5 * delta + 0.25 * 2 * before)
    adapters = read_receipt(tmp_path / "merged").recipe["adapters"]
    assert adapters == [{"name": "one", "weight": 0.5}, {"name": "two", "weight": 0.25}]
    assert set(read_receipt(tmp_path / "merged").data) == {
        "adapter 1",
        "adapter 2",
    }  # without receipts of their own
    with pytest.raises(OrreryError, match="another model's"):
        merge_adapters(tiny_model(90, d_model=16), [(first, 1.0)])


def test_a_gguf_base_is_dequantised(base: Path, tmp_path: Path) -> None:
    convert(base, tmp_path / "base.gguf", kind="q8_0")
    lm = LM.load(tmp_path / "base.gguf")
    save_adapter(trained(lm.model, 2), lm.model, tmp_path / "adapter")
    report = merge(tmp_path / "base.gguf", [(tmp_path / "adapter", 1.0)], tmp_path / "merged", kind="f32")
    assert report.from_adapted[0] < 1e-6 < report.from_base


def test_what_cannot_be_merged_is_refused_before_anything_is_written(base: Path, tmp_path: Path) -> None:
    model = orrery.load(base).model
    save_adapter(new_adapter(model, Prompt(tokens=2)), model, tmp_path / "prompt")
    save_adapter(trained(model, 1), model, tmp_path / "lora")
    out = tmp_path / "out"
    for adapters, kind, says in (
        ([(tmp_path / "prompt", 1.0)], "f32", "cannot be merged"),
        ([], "f32", "one adapter or more"),
        ([(tmp_path / "lora", 1.0)], "q8_0", "no type"),
        ([(base, 1.0)], "f32", "no adapter_config.json"),
    ):
        with pytest.raises(OrreryError, match=says):
            merge(base, adapters, out, kind=kind)
        assert not out.exists()
    with pytest.raises(OrreryError, match="there already"):
        merge(base, [(tmp_path / "lora", 1.0)], base)
    with pytest.raises(OrreryError, match="no tokens"):
        merge(base, [(tmp_path / "lora", 1.0)], out, text="")


def test_the_verb(base: Path, tmp_path: Path) -> None:
    model = orrery.load(base).model
    for name in ("one", "two"):
        save_adapter(trained(model, len(name)), model, tmp_path / name)
    (tmp_path / "probe.txt").write_text("the cat sat on the mat")
    one, two, out = (str(tmp_path / name) for name in ("one", "two", "merged"))
    given = [
        "merge",
        str(base),
        one,
        two,
        out,
        "-w",
        "0.5",
        "-w",
        "0.5",
        "--text",
        str(tmp_path / "probe.txt"),
        "--json",
    ]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0 and json.loads(done.stdout)["tokens"] > 3, done.output
    assert [a["weight"] for a in read_receipt(out).recipe["adapters"]] == [0.5, 0.5]
    done = CliRunner().invoke(app, ["merge", str(base), one, str(tmp_path / "single")])
    assert done.exit_code == 0 and (tmp_path / "single" / "model.safetensors").is_file()
    done = CliRunner().invoke(app, ["merge", str(base), one, two, str(tmp_path / "other"), "-w", "1"])
    assert isinstance(done.exception, OrreryError) and "2 adapters and 1 weights" in str(done.exception)


def test_kl_by_hand() -> None:
    p, q = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]]).log()
    assert mean_kl(p, q) == pytest.approx(0.5 * (torch.tensor(2 / 3).log() + torch.tensor(2.0).log()).item())
