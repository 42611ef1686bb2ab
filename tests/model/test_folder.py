"""Model folders: written and read without loss, strict about what is in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orrery.kit import files
from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError
from orrery.model import Decoder, Packed, load_config, load_model, replace, save_model
from orrery.model.families import family_of
from orrery.model.families.family import canonical
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import Dynamic, Linear, LongRope, Ntk, Rope, Yarn

from .shapes import SHAPES, ids, shape, tiny


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_what_is_saved_is_loaded(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m").eval()
    assert canonical(again.cfg) == canonical(model.cfg) == canonical(load_config(tmp_path / "m"))
    assert again.state_dict().keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    assert torch.equal(again(ids(9), Packed([9])), model(ids(9), Packed([9])))


FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("gqa", {}),
    "llama-untied-biased": ("untied", {"attention_bias": True, "output_bias": True, "feed_forward": Mlp(d_ff=40, bias=True)}),
    "llama-gelu": ("mqa", {"feed_forward": Mlp(d_ff=40, activation="gelu_tanh")}),
    "llama-linear": ("gqa", {"position": Rope(theta=500.0, scaling=Linear(factor=4.0))}),
    "llama-dynamic": ("gqa", {"position": Rope(scaling=Dynamic(factor=2.0, original_max_positions=64))}),
    "llama-yarn": ("gqa", {"position": Rope(scaling=Yarn(factor=4.0, original_max_positions=16, beta_fast=8.0))}),
    "llama-llama3": ("llama3-rope", {}),
    "llama-longrope": (
        "gqa",
        {"position": Rope(scaling=LongRope(short_factor=(1.0, 1.1, 1.2, 1.3), long_factor=(1.0, 2.0, 4.0, 8.0), factor=8.0, original_max_positions=16))},
    ),
    "qwen3": ("qk-norm", {"head_dim": 16}),
    "qwen3-windows": ("qk-norm", {"window": 4, "layer_pattern": ("global", "local")}),
    "mixtral": ("moe-softmax", {}),
    "mixtral-window": ("moe-softmax", {"window": 4, "layer_pattern": ("local",)}),
    "qwen3_moe": (
        "qk-norm",
        {"feed_forward": Moe(n_experts=4, top_k=2, d_ff=24, normalize_top_k=False), "first_dense_layers": 1, "dense_feed_forward": Mlp(d_ff=40)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_transformers_opens_it_with_equal_logits(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference implementation, a test extra")
    base, changes = FAMILIES[name]
    model = tiny(base, **changes)
    save_model(model, tmp_path / "ours", eos_id=3)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager"
    ).eval()
    assert theirs.config.model_type == name.split("-")[0] and theirs.config.eos_token_id == 3
    assert theirs.generation_config.eos_token_id == 3
    for length in (20, 12):  # beyond and within the 16 trained positions of the stretched ones
        tokens = ids(length)
        want = theirs(tokens[None]).logits[0]
        torch.testing.assert_close(model.head(model(tokens, Packed([length]))), want, rtol=1e-5, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = load_model(tmp_path / "theirs").eval()
    assert canonical(again.cfg) == canonical(model.cfg)
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_what_no_family_expresses_is_saved_under_our_names(tmp_path: Path) -> None:
    for name, changes in [
        ("alibi", {}), ("sandwich", {}), ("layernorm", {}), ("softcap", {}), ("sinks", {}), ("plain-mlp", {}),
        ("gqa", {"output_bias": True}), ("gqa", {"mtp_heads": 1}), ("gqa", {"logit_softcap": 0.5}),
        ("gqa", {"position": Rope(scaling=Ntk(factor=2.0))}), ("qk-norm", {"position": Rope(interleaved=True)}),
        ("gqa", {"position": Rope(scaling=Dynamic(factor=2.0, original_max_positions=8))}),
        ("qk-norm", {"window": 3, "layer_pattern": ("local", "nope")}), ("moe-sigmoid", {}), ("latent", {}),
    ]:  # fmt: skip
        assert family_of(shape(name, **changes)) is None, (name, changes)
    model = tiny("alibi", dropout=0.1)
    save_model(model, tmp_path / "m")
    assert config_of(tmp_path / "m")["model_type"] == "orrery"
    assert load_model(tmp_path / "m").cfg == model.cfg  # the whole of it
    assert load_file(tmp_path / "m" / "model.safetensors").keys() == model.state_dict().keys()


def test_what_only_training_reads_does_not_matter_to_a_family() -> None:
    for name, changes in [
        ("gqa", {"dropout": 0.1, "window": 5}),
        ("gqa", {"n_kv_heads": 4, "attention_scale": 8**-0.5, "embedding_scale": 1.0}),
        (
            "moe-softmax",
            {"feed_forward": Moe(n_experts=4, top_k=2, d_ff=24, capacity_factor=1.5, z_loss=0.1)},
        ),
    ]:
        assert family_of(shape(name, **changes)) is not None, (name, changes)


def test_files_of_a_folder(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path / "plain")
    assert sorted(p.name for p in (tmp_path / "plain").iterdir()) == ["config.json", "model.safetensors"]
    stored = load_file(tmp_path / "plain" / "model.safetensors")
    assert "model.layers.1.self_attn.q_proj.weight" in stored
    assert "lm_head.weight" not in stored  # tied, so stored once
    save_model(tiny(), tmp_path / "talks", eos_id=2, bos_id=1)
    generation = json.loads((tmp_path / "talks" / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": 2}


def test_a_large_model_is_split(tmp_path: Path) -> None:
    model = tiny("moe-softmax")
    save_model(model, tmp_path / "m", shard_bytes=20_000)
    parts = sorted(p.name for p in (tmp_path / "m").glob("*.safetensors"))
    assert len(parts) > 3 and parts[0] == f"model-00001-of-{len(parts):05d}.safetensors"
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(parts)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in model.state_dict().values())
    again = load_model(tmp_path / "m")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    transformers = pytest.importorskip("transformers", reason="the reference implementation, a test extra")
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m").config.model_type == "mixtral"


def test_types_of_numbers(tmp_path: Path) -> None:
    model = tiny("moe-sigmoid").to(torch.bfloat16)
    save_model(model, tmp_path / "m")
    assert config_of(tmp_path / "m")["dtype"] == "bfloat16"
    assert load_model(tmp_path / "m").embed.weight.dtype == torch.bfloat16
    wide = load_model(tmp_path / "m", dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    assert torch.equal(wide.embed.weight, model.embed.weight.float())


def test_loading_maps_the_file_and_training_does_not_change_it(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path / "m")
    before = files.sha256_file(tmp_path / "m" / "model.safetensors")
    model = load_model(tmp_path / "m")
    assert all(p.requires_grad and not p.is_meta for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model.head(model(ids(8), Packed([8]))).square().mean().backward()
    optimizer.step()
    assert files.sha256_file(tmp_path / "m" / "model.safetensors") == before
    assert not torch.equal(model.embed.weight, load_model(tmp_path / "m").embed.weight)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("missing", lambda t: t.pop("model.norm.weight"), "missing: model.norm.weight"),
        ("unexpected", lambda t: t.update({"model.extra": torch.ones(1)}), "unexpected: model.extra"),
        ("shape", lambda t: t.update({"model.norm.weight": torch.ones(7)}), "'model.norm.weight' has shape [7], but the config asks for [32]"),
        ("many", lambda t: [t.pop(k) for k in list(t) if ".mlp." in k], "and 4 more"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named(name: str, change: Any, says: str, tmp_path: Path) -> None:
    save_model(tiny(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(OrreryError, match=re.escape(says)):
        load_model(tmp_path)


def test_what_other_writers_add_is_let_pass(tmp_path: Path) -> None:
    model = tiny()
    save_model(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path).norm.weight, model.norm.weight)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole = weights.read_bytes()
    for bad in (whole[:-100], whole[:50], b"", b"not a model", b"\xff" * 8 + whole[8:]):
        weights.write_bytes(bad)
        with pytest.raises(OrreryError, match=r"model.safetensors' is damaged"):
            load_model(tmp_path)
    weights.unlink()
    with pytest.raises(OrreryError, match="the weights are missing"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit'\ntR.")
    with pytest.raises(OrreryError, match="pickled weights"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(OrreryError, match=r"index.json' must hold a JSON object"):
        load_model(tmp_path)
    good = json.loads(config.read_text())
    for text, says in [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        (json.dumps(good | {"model_type": "lama"}), "Did you mean 'llama'"),
        (
            json.dumps({k: v for k, v in good.items() if k != "hidden_size"}),
            "lacks the setting 'hidden_size'",
        ),
        (json.dumps(good | {"hidden_act": "swoosh"}), "'swoosh'; known are silu"),
        (json.dumps(good | {"rope_parameters": {"rope_type": "magic"}}), "rope scaling 'magic'"),
        (json.dumps({"model_type": "orrery", "decoder": {"n_head": 3}}), "Did you mean 'n_heads'"),
        (json.dumps({"model_type": "orrery"}), "config.json"),
        (json.dumps(good | {"hidden_size": "wide"}), "config.json"),
        (json.dumps(good | {"num_hidden_layers": -1}), "'num_hidden_layers' -1 is not between"),
    ]:
        config.write_text(text)
        with pytest.raises(OrreryError, match=re.escape(says)):
            load_config(tmp_path)
    config.unlink()
    with pytest.raises(OrreryError, match=r"has no config.json"):
        load_model(tmp_path)
    with pytest.raises(OrreryError, match="is not a folder"):
        load_model(tmp_path / "nowhere")


def test_surgery_must_be_undone_before_saving(tmp_path: Path) -> None:
    model = tiny()
    up = "blocks.0.mlp.up_proj"
    wrapped = replace(model, lambda name, m: name == up, lambda m: torch.nn.ModuleDict({"base": m}))
    with pytest.raises(OrreryError, match=r"blocks.0.mlp.up_proj.base.weight.*merge adapters"):
        save_model(wrapped, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    ours = replace(tiny("alibi"), lambda name, m: name == "norm", lambda m: torch.nn.Sequential(m))
    with pytest.raises(OrreryError, match="merge adapters"):
        save_model(ours, tmp_path / "m")


def test_a_save_that_dies_leaves_nothing_or_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Power(BaseException):
        pass

    class Failing(files.FileOps):
        def __init__(self, at: int) -> None:
            self.left = at

        def _count(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise Power

        def write(self, path: Path, data: bytes) -> None:
            self._count()
            super().write(path, data)

        def fsync(self, path: Path) -> None:
            self._count()
            super().fsync(path)

        def rename(self, source: Path, target: Path) -> None:
            self._count()
            super().rename(source, target)

    for at in range(40):
        monkeypatch.setattr(files, "ops", Failing(at))
        try:
            save_model(tiny(), tmp_path / str(at))
            break
        except Power:
            if (tmp_path / str(at)).exists():
                load_model(tmp_path / str(at))
    else:
        raise AssertionError("the save never finished")
    assert at > 5


def test_a_default_decoder_is_a_llama(tmp_path: Path) -> None:
    model = Decoder(shape("gqa"))
    save_model(model, tmp_path / "m")
    config = config_of(tmp_path / "m")
    assert config["architectures"] == ["LlamaForCausalLM"] and config["model_type"] == "llama"
    assert (config["rope_theta"], config["bos_token_id"], config["eos_token_id"]) == (10_000.0, None, None)
    assert to_dict(load_config(tmp_path / "m"))["n_kv_heads"] == 2
