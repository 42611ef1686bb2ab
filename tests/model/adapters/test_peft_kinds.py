"""Every kind that peft has: its adapters opened here and ours opened there, with equal logits, on Llama and Gemma 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orrery.kit.errors import OrreryError
from orrery.kit.model_folder import OWN_ADAPTER
from orrery.model import load_model
from orrery.model.adapters import Bottleneck, Reft, new_adapter
from orrery.model.adapters.folder import OWN_WEIGHTS, load_adapter, save_adapter
from orrery.model.adapters.low_rank import LowRank, Pissa
from tests.model.adapters.kinds import KINDS, adapted, made
from tests.model.families.cases import CASES
from tests.model.families.harness import make, tokens
from tests.model.shapes import ids, tiny

peft = pytest.importorskip("peft", reason="the reference for adapters is peft")
pytestmark = [  # peft's own doings
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
CAUSAL = {"task_type": "CAUSAL_LM"}
TARGETS = ["q_proj", "v_proj", "down_proj"]
THEIRS = {
    "dora": lambda: peft.LoraConfig(r=3, lora_alpha=7, use_dora=True, target_modules=TARGETS, **CAUSAL),
    "pissa": lambda: peft.LoraConfig(
        r=3, lora_alpha=7, init_lora_weights="pissa", target_modules=TARGETS, **CAUSAL
    ),
    "vera": lambda: peft.VeraConfig(r=6, target_modules=TARGETS, **CAUSAL),
    "vera-unsaved": lambda: peft.VeraConfig(
        r=6, target_modules=TARGETS, save_projection=False, projection_prng_key=5, **CAUSAL
    ),
    "ia3": lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"], **CAUSAL),
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, **CAUSAL),
    "prefix-projected": lambda: peft.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8, **CAUSAL
    ),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, **CAUSAL),
}
LENGTH = 5  # with the virtual tokens within Gemma's window of 8


def reference(theirs: Any, name: str, folder: Path) -> Any:
    """The model with a peft adapter whose every number matters, saved in `folder`."""
    torch.manual_seed(0)
    adapted = peft.get_peft_model(theirs, THEIRS[name]()).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(folder)
    return adapted


def logits_of(model: Any, text: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=text[None], attention_mask=torch.ones(1, len(text))).logits[0, -len(text) :]


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("name", THEIRS)
def test_theirs_opened_here_and_written_back(name: str, family: str, tmp_path: Path) -> None:
    theirs, text = make(CASES[family], tmp_path / "model"), tokens(LENGTH)
    plain = logits_of(theirs, text)
    want = logits_of(reference(theirs, name, tmp_path / "adapter"), text)
    assert (want - plain).abs().max() > 1e-3
    model = load_model(tmp_path / "model")
    adapter = load_adapter(tmp_path / "adapter", model)
    torch.testing.assert_close(adapted(model, adapter, text), want, atol=1e-4, rtol=1e-4)
    save_adapter(adapter, model, tmp_path / "again", base_model=str(tmp_path / "model"))
    torch.testing.assert_close(
        adapted(model, load_adapter(tmp_path / "again", model), text), want, atol=1e-4, rtol=1e-4
    )
    again = peft.PeftModel.from_pretrained(make(CASES[family], tmp_path / "model"), tmp_path / "again").eval()
    torch.testing.assert_close(logits_of(again, text), want, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama-biases", "gemma3", "gpt2"])
@pytest.mark.parametrize("name", ["rslora", "dora", "pissa", "vera", "ia3", "prefix", "prompt"])
def test_ours_opened_there(name: str, family: str, tmp_path: Path) -> None:
    if family == "gpt2" and name in ("vera", "prefix"):
        return  # fused projections have no vectors of their own; gpt2's prefixes go through a cache of another form
    theirs, text = make(CASES[family], tmp_path / "model"), tokens(LENGTH)
    model = load_model(tmp_path / "model")
    adapter = made(model, name)
    want = adapted(model, adapter, text)
    save_adapter(adapter, model, tmp_path / "adapter", base_model=str(tmp_path / "model"))
    there = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    torch.testing.assert_close(logits_of(there, text), want, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(
        adapted(model, load_adapter(tmp_path / "adapter", model), text), want, atol=1e-4, rtol=1e-4
    )


def test_pissa_is_written_as_lora_of_twice_the_rank(tmp_path: Path) -> None:
    model = tiny()
    adapter = made(model, "pissa")
    save_adapter(adapter, model, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (6, 12, True)
    again = load_adapter(tmp_path / "adapter", model)
    for name, part in again.parts.items():
        before = adapter.parts[name]
        assert isinstance(part, LowRank) and isinstance(before, Pissa)
        torch.testing.assert_close(part.delta(), before.delta())


@torch.no_grad()
@pytest.mark.parametrize("name", ["bottleneck", "pfeiffer", "reft", "reft-first"])
def test_what_peft_has_no_kind_for_has_files_of_its_own(name: str, tmp_path: Path) -> None:
    model, text = tiny(), ids(7)
    adapter = made(model, name)
    save_adapter(adapter, model, tmp_path / "adapter", base_model="somebody/model")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {OWN_ADAPTER, OWN_WEIGHTS}
    again = load_adapter(tmp_path / "adapter", model)
    assert again.config == adapter.config == KINDS[name]
    assert torch.equal(adapted(model, again, text), adapted(model, adapter, text))
    with pytest.raises(OrreryError, match="another model's"):
        load_adapter(tmp_path / "adapter", tiny(d_model=16))
    tensors = load_file(tmp_path / "adapter" / OWN_WEIGHTS)
    damaged = {key: torch.full_like(value, torch.nan) for key, value in tensors.items()}
    for wrong in ({}, damaged, {**tensors, "more": torch.ones(1)}):
        save_file(wrong, tmp_path / "adapter" / OWN_WEIGHTS)
        with pytest.raises(OrreryError, match="damaged"):
            load_adapter(tmp_path / "adapter", model)
    (tmp_path / "adapter" / OWN_ADAPTER).write_text(
        '{"format": 1, "adapter": {"kind": "bottleneck", "width": 0}}'
    )
    with pytest.raises(OrreryError, match="width"):
        load_adapter(tmp_path / "adapter", model)


@pytest.mark.parametrize(
    ("name", "tensors", "settings", "says"),
    [
        ("ia3", {"base_model.model.blocks.0.attn.k_proj.ia3_l": torch.ones(3, 1)}, {}, "another model's"),
        ("ia3", {"base_model.model.blocks.0.attn.k_proj.ia3_x": torch.ones(16, 1)}, {}, "no part of a IA3"),
        ("vera", {"base_model.vera_A": torch.ones(8, 3)}, {}, "too small"),
        ("vera", {}, {"r": 1 << 19}, "sensible"),
        (
            "vera",
            {"base_model.model.blocks.0.attn.q_proj.vera_lambda_d": torch.ones(2)},
            {},
            "another model's",
        ),
        ("prompt", {"prompt_embeddings": torch.ones(3, 31)}, {}, "32 columns"),
        ("prefix", {"more": torch.ones(3)}, {}, "one tensor"),
        ("prefix", {}, {"some_setting": True}, "some_setting"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, tensors: dict[str, torch.Tensor], settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    model = tiny()
    save_adapter(made(model, name), model, tmp_path / "a")
    save_file(load_file(tmp_path / "a" / WEIGHTS) | tensors, tmp_path / "a" / WEIGHTS)
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    (tmp_path / "a" / CONFIG).write_text(json.dumps(config | settings))
    with pytest.raises(OrreryError, match=says):
        load_adapter(tmp_path / "a", model)


def test_layers_that_a_family_keeps_as_one_are_refused_where_its_file_has_no_place(tmp_path: Path) -> None:
    make(CASES["gpt2"], tmp_path / "model")
    model = load_model(tmp_path / "model")
    with pytest.raises(OrreryError, match="as one"):
        save_adapter(made(model, "vera"), model, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    for config in (Bottleneck(width=2), Reft(rank=1)):
        save_adapter(new_adapter(model, config), model, tmp_path / config.kind)
