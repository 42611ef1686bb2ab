"""Published configs pass; what is out of range, or asks for code, is refused with its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.foreign_config import check_config, check_generation
from orrery.kit.json import read_json

SMALL = {
    "model_type": "llama",
    "vocab_size": 16,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "rms_norm_eps": 1e-6,
}


def test_published_configs_pass(shared_data: Path) -> None:
    files = sorted((shared_data / "model_configs").glob("*.json"))
    assert len(files) > 20
    for file in files:
        assert check_config(read_json(file), str(file))["model_type"]


def test_the_defaults_of_transformers_pass() -> None:
    pytest.importorskip("transformers", reason="the extra 'test' is not installed")
    from transformers import CONFIG_MAPPING

    from orrery.model.families import BY_TYPE

    tried = 0
    for kind in BY_TYPE:
        if kind in CONFIG_MAPPING:
            hf = json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False))
            assert check_config(hf, kind) == hf
            tried += 1
    assert tried > 25


OWN = {"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}


def test_code_that_a_built_in_family_once_needed_is_ignored() -> None:
    assert check_config(SMALL | {"model_type": "phi3", "auto_map": OWN}, "x")
    for wrong in (
        {"model_type": "llama", "auto_map": OWN},
        {"model_type": "phi3", "auto_map": OWN | {"AutoModel": "modeling_phi3.Other"}},
        {"model_type": "phi3", "auto_map": {"AutoModel": "someone/else--modeling_phi3.Phi3Model"}},
        {"model_type": "phi3", "auto_map": {"AutoModel": ["modeling_phi3.Phi3Model"]}},
        {"model_type": "phi3", "auto_map": "modeling_phi3.Phi3Model"},
        {"model_type": "phi3", "text_config": {"auto_map": OWN}},
    ):
        with pytest.raises(OrreryError, match=r"auto_map.*code from the model folder"):
            check_config(SMALL | wrong, "x")


@pytest.mark.parametrize(
    "fine",
    [
        {"_name_or_path": "/home/me/../llama"}, {"id2label": {"0": "/etc"}}, {"num_key_value_heads": None, "head_dim": None, "sliding_window": None},
        {"eos_token_id": [1, 2], "pad_token_id": -1}, {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1, "modules_to_not_convert": ["model.layers.*.mlp"]}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 40, "mscale": 1.0}}, {"_attn_implementation": "sdpa"}, {"hidden_sizes": [1, 2]}, {"num_attention_heads": [2, 2]},
    ],
)  # fmt: skip
def test_what_published_configs_also_hold(fine: dict[str, Any]) -> None:
    assert check_config(SMALL | fine, "x") == SMALL | fine


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vocab_size": 2**24 + 1}, "'vocab_size' 16777217 is not between 1 and 16,777,216"),
        ({"vision_config": {"hidden_size": 0}}, "'vision_config.hidden_size' 0 is not between"),
        ({"hidden_size": True}, "must be a whole number, not 'True'"),
        ({"layers": [{"num_heads": -1}]}, "'layers[0].num_heads' -1"),
        ({"num_attention_heads": 3}, "3 does not divide hidden_size 8"),
        ({"num_key_value_heads": 4}, "4 must divide num_attention_heads 2"),
        ({"bos_token_id": 2**31}, "is no token id"),
        ({"eos_token_id": [1, None]}, "is no token id"),
        ({"partial_rotary_factor": 1.5}, "is not between 1e-06 and 1"),
        ({"a": {"b": [{"_target_": "os.system"}]}}, "'a.b[0]._target_' names code"),
        ({"x": "${oc.env:HOME}"}, "asks to be filled in"),
        ({"x": ["a/../../b"]}, "is a path outside the folder"),
        ({"_experts_implementation_internal": "x"}, "another library's inside"),
        ({"quantization_config": {"weight_block_size": [128, 0]}}, "must be whole numbers"),
        (
            {"quantization_config": {"config_groups": {"g": {"num_bits": 99}}}},
            "99 bits are not between 1 and 16",
        ),
        ({"num_hiden_layers": 1}, "Did you mean 'num_hidden_layers'"),
        ({"model_type": 7}, "is no name of a family"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(OrreryError) as caught:
        check_config(SMALL | wrong, "model/config.json")
    assert says in str(caught.value) and str(caught.value).startswith("'model/config.json'")


def test_generation_settings() -> None:
    fine = {
        "max_length": 4096,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "eos_token_id": [1, 2],
        "do_sample": True,
        "min_p": None,
    }
    assert check_generation(fine, "x") == fine
    for wrong in (
        {"temperature": -0.1},
        {"top_p": 1.1},
        {"top_k": 2.0},
        {"top_k": True},
        {"num_beams": 0},
        {"max_length": 10**12},
        {"temperature": "hot"},
    ):
        with pytest.raises(OrreryError, match="'x': "):
            check_generation(fine | wrong, "x")
