"""Adapters of the peft library opened here and ours opened there, with equal logits; what is damaged or unknown is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model import Packed, load_model
from orrery.model.adapters import Adapter, AdapterSlots, Lora, linear_shapes, merge_adapter, new_adapter
from orrery.model.adapters.folder import load_adapter, save_adapter
from orrery.model.adapters.low_rank import LowRank
from orrery.model.adapters.peft_config import lora_settings, read_config

from ..families.cases import CASES
from ..families.harness import make, tokens

peft = pytest.importorskip("peft", reason="the reference for adapters is peft")
pytestmark = [  # peft's own doings
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
FAMILIES = {
    "llama": "all-linear",
    "llama-biases": ["q_proj", "down_proj"],
    "gemma3": ["q_proj", "v_proj", "gate_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "pythia": ["query_key_value", "dense"],
    "phi3": ["qkv_proj", "gate_up_proj", "o_proj"],
    "deepseek-v2": ["q_b_proj", "kv_b_proj", "o_proj"],
    "qwen2-moe": ["q_proj", "shared_expert.up_proj"],
    "mamba2": ["in_proj"],
}


def reference(theirs: Any, folder: Path, **settings: Any) -> Any:
    """The model with a peft adapter whose every number matters, saved in `folder`."""
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", **{"r": 3, "lora_alpha": 7, "init_lora_weights": False, **settings}
    )
    adapted = peft.get_peft_model(theirs, config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(folder)
    return adapted


def logits_of(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(ids[None]).logits[0]


def ours(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model.head(model(ids, Packed([len(ids)])))


def adapted(model: Any, adapter: Adapter, ids: Tensor) -> Tensor:
    """Logits with the adapter beside the model, which is as it was afterwards."""
    slots = AdapterSlots.of(model)
    slots.default = slot = slots.add(adapter)
    try:
        return ours(model, ids)
    finally:
        slots.remove(slot)


@pytest.mark.parametrize("name", FAMILIES)
def test_theirs_opened_here_and_ours_opened_there(name: str, tmp_path: Path) -> None:
    theirs, ids = make(CASES[name], tmp_path / "model"), tokens(17)
    model = load_model(tmp_path / "model")
    plain = logits_of(theirs, ids)
    with_peft = reference(
        theirs, tmp_path / "adapter", target_modules=FAMILIES[name], fan_in_fan_out=name == "gpt2"
    )
    want = logits_of(with_peft, ids)
    assert (want - plain).abs().max() > 1e-2
    adapter = load_adapter(tmp_path / "adapter", model)
    torch.testing.assert_close(adapted(model, adapter, ids), want, atol=5e-5, rtol=1e-5)

    save_adapter(adapter, model, tmp_path / "again")
    before, after = (load_file(tmp_path / folder / WEIGHTS) for folder in ("adapter", "again"))
    assert before.keys() == after.keys()
    for key, tensor in before.items():  # what was fused is so again, bit for bit
        assert torch.equal(after[key], tensor), key
    base = with_peft.unload()
    assert torch.equal(logits_of(base, ids), plain)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "again").eval()
    torch.testing.assert_close(logits_of(again, ids), want, atol=1e-5, rtol=1e-5)

    merge_adapter(model, adapter)
    torch.testing.assert_close(ours(model, ids), want, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_rslora": True, "rank_pattern": {"q_proj": 5}, "alpha_pattern": {"q_proj": 11}},
        {"rank_pattern": {r"^model.layers.1.self_attn.q_proj": 2}, "alpha_pattern": {r".*layers.[02].*": 3}},
        {"lora_bias": True},
        {"bias": "lora_only"},
    ],
    ids=["rslora", "rslora-pattern", "patterns", "bias-of-b", "bias-of-base"],
)
def test_settings_mean_what_peft_computes(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs, ids = make(CASES["llama-biases"], tmp_path / "model"), tokens(9)
    model = load_model(tmp_path / "model")
    want = logits_of(
        reference(theirs, tmp_path / "adapter", target_modules=["q_proj", "up_proj"], **settings), ids
    )
    adapter = load_adapter(tmp_path / "adapter", model)
    torch.testing.assert_close(adapted(model, adapter, ids), want, atol=1e-5, rtol=1e-5)
    save_adapter(adapter, model, tmp_path / "again")
    torch.testing.assert_close(
        adapted(model, load_adapter(tmp_path / "again", model), ids), want, atol=1e-5, rtol=1e-5
    )
    again = peft.PeftModel.from_pretrained(
        make(CASES["llama-biases"], tmp_path / "model"), tmp_path / "again"
    ).eval()
    torch.testing.assert_close(logits_of(again, ids), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "phi3"])
def test_layers_with_products_of_their_own_become_one_of_all_their_ranks(
    name: str, rslora: bool, tmp_path: Path
) -> None:
    """The family stores q, k and v as one: ours have different A, and v has none."""
    theirs, ids = make(CASES[name], tmp_path / "model"), tokens(9)
    model, generator = load_model(tmp_path / "model"), torch.Generator().manual_seed(4)
    shapes = linear_shapes(model)
    config = Lora(rank=4, alpha=6.0, rslora=rslora, targets=("q_proj", "k_proj"))
    layers: dict[str, LowRank] = {}
    for i, layer in enumerate(name for name in shapes if config.matches(name)):
        rank = 2 + i % 3
        a, b = (
            torch.randn(shape, generator=generator)
            for shape in ((rank, shapes[layer][1]), (shapes[layer][0], rank))
        )
        layers[layer] = LowRank(a, b * 0.2, scale=config.scale(rank))
    adapter = Adapter(config, layers)
    want = adapted(model, adapter, ids)
    assert (want - ours(model, ids)).abs().max() > 1e-2
    save_adapter(adapter, model, tmp_path / "adapter")
    there = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits_of(there, ids), want, atol=5e-5, rtol=1e-5)
    torch.testing.assert_close(
        adapted(model, load_adapter(tmp_path / "adapter", model), ids), want, atol=2e-5, rtol=1e-5
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and an adapter of it."""
    folder = tmp_path_factory.mktemp("peft")
    reference(make(CASES["llama"], folder / "model"), folder / "adapter", target_modules=["q_proj"])
    return folder


def copied(folders: Path, tmp_path: Path, **settings: Any) -> Path:
    """The adapter with some settings of its config changed."""
    shutil.copytree(folders / "adapter", tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    (tmp_path / "adapter" / CONFIG).write_text(json.dumps(config | settings))
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peft_type": "LOHA"}, "'LOHA'"),
        ({"peft_type": "IA3"}, "'lora_alpha'"),
        ({"peft_type": ["LORA"]}, "only LORA"),
        ({"use_dora": True}, "holds no lora_magnitude_vector"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "'target_parameters'"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save'"),
        ({"some_later_kind": {"on": 1}}, "'some_later_kind'"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"r": 0}, "whole numbers"),
        ({"r": "8"}, "r must be a number"),
        ({"r": 4}, "rank 3"),
        ({"lora_alpha": 1e308}, "lora_alpha"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "no name of a module"),
        ({"alpha_pattern": {"(m|m)" * 20: 3}}, "no name of a module"),
        ({"alpha_pattern": {"(": 3}}, "no name of a module"),
        ({"alpha_pattern": {"q_proj": None}}, "must be a number"),
        ({"rank_pattern": ["q_proj"]}, "must map"),
    ],
)
def test_configs_that_are_refused(settings: dict[str, Any], says: str, folders: Path, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match=None) as error:
        load_adapter(copied(folders, tmp_path, **settings), load_model(folders / "model"))
    assert says in str(error.value)


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
PARTS = st.sampled_from(
    ["r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights"]
)


@examples(max_examples=300, deadline=None)
@given(changes=st.dictionaries(PARTS | st.text(max_size=8), ANY_JSON, max_size=4))
def test_any_config_is_read_or_refused(
    changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16} | changes))
    try:
        scale = lora_settings(folder, read_config(folder)).scale("model.layers.0.self_attn.q_proj", 8)
    except OrreryError:
        return
    assert abs(scale) < 1e6


KEY = "base_model.model.model.layers.0.self_attn.q_proj."


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_model.model.lm_head.weight": torch.ones(2, 2)}, "no part of a LoRA adapter"),
        ({KEY + "lora_magnitude_vector": torch.ones(2)}, "no part of a LoRA adapter"),
        ({KEY + "lora_B.weight": torch.ones(5, 3)}, "another model's"),
        ({KEY + "lora_B.weight": None}, "another model's"),
        ({KEY + "lora_A.weight": torch.full((3, 48), torch.nan)}, "finite"),
        ({KEY + "lora_A.weight": torch.ones(3, 48, dtype=torch.int32)}, "finite floats"),
        (
            {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(3, 48)},
            "no linear layer",
        ),
        ({"base_model.model.model.embed_tokens.lora_A.weight": torch.ones(3, 48)}, "no linear layer"),
        ({KEY + "bias": torch.ones(64)}, "another model's"),
        ({KEY + "bias": torch.ones(48)}, "has none"),
        ({"model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(3, 48)}, "no part of a LoRA adapter"),
    ],
)
def test_tensors_that_are_refused(changes: dict[str, Any], says: str, folders: Path, tmp_path: Path) -> None:
    folder = copied(folders, tmp_path)
    tensors = load_file(folder / WEIGHTS) | changes
    save_file({name: t for name, t in tensors.items() if t is not None}, folder / WEIGHTS)
    with pytest.raises(OrreryError) as error:
        load_adapter(folder, load_model(folders / "model"))
    assert says in str(error.value)


def test_files_that_are_missing_pickled_or_elsewhere(folders: Path, tmp_path: Path) -> None:
    model, folder = load_model(folders / "model"), copied(folders, tmp_path)
    elsewhere = (folder / WEIGHTS).rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(OrreryError, match=f"no {WEIGHTS}$"):
        load_adapter(folder, model)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(OrreryError, match="can run code"):
        load_adapter(folder, model)
    (folder / WEIGHTS).symlink_to(elsewhere)
    with pytest.raises(OrreryError, match="a link out of the folder"):
        load_adapter(folder, model)
    (folder / CONFIG).unlink()
    with pytest.raises(OrreryError, match=f"no {CONFIG}"):
        load_adapter(folder, model)


def test_a_model_without_a_family_uses_its_own_names(tmp_path: Path) -> None:
    from ..shapes import ids, tiny

    model, tokens = tiny("alibi-window", parallel=True), ids(9)
    adapter = new_adapter(model, Lora(rank=2, targets=("up_proj",)), seed=3)
    for low in adapter.parts.values():
        torch.nn.init.normal_(low.b, std=0.2)
    want = adapted(model, adapter, tokens)
    save_adapter(adapter, model, tmp_path / "adapter")
    assert "base_model.model.blocks.0.mlp.up_proj.lora_A.weight" in load_file(tmp_path / "adapter" / WEIGHTS)
    assert torch.equal(adapted(model, load_adapter(tmp_path / "adapter", model), tokens), want)
