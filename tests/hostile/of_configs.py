"""CF: config.json, generation_config.json and recipes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Opens
from tests.hostile.seeds import RECIPE, model_config, model_folder

Build = Callable[[Path], Iterator[Opens]]


def recipe(*texts: str) -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        for i, text in enumerate(texts):
            (folder / f"r{i}.yaml").write_text(text)
            yield "recipe", folder / f"r{i}.yaml"

    return build


def configs(*changes: dict[str, Any]) -> Build:
    """A whole model folder with each of these changes in its config.json."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, change in enumerate(changes):
            yield "model", model_folder(folder / str(i), **change)
            yield "config", folder / str(i)

    return build


def config_texts(*texts: str | Callable[[], str]) -> Build:
    """A whole model folder whose config.json is this text."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, text in enumerate(texts):
            model_folder(folder / str(i))
            (folder / str(i) / "config.json").write_text(text if isinstance(text, str) else text())
            yield "model", folder / str(i)

    return build


def generation(*texts: str) -> Build:
    """A whole model folder beside a generation_config.json of this text."""

    def build(folder: Path) -> Iterator[Opens]:
        for i, text in enumerate(texts):
            model_folder(folder / str(i))
            (folder / str(i) / "generation_config.json").write_text(text)
            yield "model", folder / str(i)

    return build


def together(*builds: Build) -> Build:
    def build(folder: Path) -> Iterator[Opens]:
        for i, one in enumerate(builds):
            (folder / f"part{i}").mkdir()
            yield from one(folder / f"part{i}")

    return build


def with_code(folder: Path) -> Iterator[Opens]:
    """auto_map at the top and deeper, with the code it names beside it; also a family that has published such a map."""
    evil = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    for i, change in enumerate(
        (
            {"auto_map": evil},
            {"auto_map": {"AutoModelForCausalLM": "other/repository--modeling_llama.LlamaForCausalLM"}},
            {"text_config": {"auto_map": evil}},
            {"quantization_config": {"quant_method": "fp8", "auto_map": evil}},
            {"model_type": "phi3", "auto_map": evil},
        )
    ):
        there = model_folder(folder / str(i), **change)
        for name in ("configuration_evil", "modeling_evil", "modeling_llama", "__init__"):
            (there / f"{name}.py").write_text(
                "open('canary', 'w')\nraise SystemExit('code from the model folder ran')\n"
            )
        yield "model", there


def adapter_with_code(folder: Path) -> Iterator[Opens]:
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "auto_map": {"AutoModel": "evil.E"}})
    )
    yield "model", folder


def alias_bomb() -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines)


def words(folder: Path) -> Iterator[Opens]:
    """What YAML 1.1 would turn into booleans, dates or bytes stays text; it is refused where a number must stand."""
    (folder / "r.yaml").write_text(RECIPE.replace("name: tiny", "name: no") + "out: on\n")
    yield "recipe", folder / "r.yaml"


def deep(open_: str, close: str, depth: int) -> str:
    return open_ * depth + close * depth


MILLION = "9" * 1_000_000
CASES = [
    Case(id="CF-01", build=recipe("a: !!python/object/apply:os.system ['touch canary']", "!!python/object/new:os.system ['x']"), refused="is not plain data"),
    Case(id="CF-02", build=recipe(alias_bomb()), refused="more than 100,000 values"),
    Case(id="CF-03", build=recipe("a: !!python/name:os.system", "a: !!binary " + "A" * 1000, "a: !!timestamp 2001-12-14t21:59:43.10-05:00", "a: !!set {b}", "a: !!omap [b: 1]", RECIPE.replace("d_model: 8", "d_model: no"), RECIPE + "no: 1\n", RECIPE + "0o10: 1\n", RECIPE.replace("1.0}", "2001-12-14}")), refused="is not plain data|valid integer|unknown setting|keys should be strings|no name of a setting|valid number"),
    Case(id="CF-03 words", build=words, accepted="^no$"),
    Case(id="CF-03 100 MB", build=recipe("a: !!binary " + "A" * 100_000_000), refused="over the limit"),
    Case(id="CF-04", build=together(recipe("_target_: os.system\nargs: ['touch canary']\n" + RECIPE, RECIPE.replace("{d_model", "{_target_: os.system, d_model")), configs({"_target_": "os.system"}, {"text_config": {"_target_": "os.system"}}, {"model_type": "orrery", "decoder": {"_target_": "os.system"}})), refused="_target_"),
    Case(id="CF-05", build=together(with_code, adapter_with_code), refused="auto_map.*code from the model folder|holds an adapter"),
    Case(id="CF-06", build=configs({"_attn_implementation_internal": "evil/kernels"}, {"_attn_implementation": "evil/kernels:run"}, {"attn_implementation": "evil/kernels"}), refused="inside|names code in a repository"),
    Case(id="CF-07", build=configs({"num_hidden_layers": 10**9}, {"hidden_size": 2**40}, {"vocab_size": 2**40}, {"intermediate_size": 2**50}, {"num_attention_heads": 2**40}, {"max_position_embeddings": 2**60}, {"head_dim": 2**40}), refused="is not between|missing|tensors"),
    Case(id="CF-07 layers", build=lambda folder: iter([("model", model_folder(folder, num_hidden_layers=1000))]), refused="fewer than the 1000 layers"),
    Case(id="CF-08", build=configs({"num_attention_heads": 0}, {"num_attention_heads": 3, "head_dim": None}, {"num_key_value_heads": 4}, {"num_key_value_heads": 0}, {"num_attention_heads": -2}, {"num_attention_heads": 2.0}, {"num_attention_heads": "2"}, {"hidden_size": 0}), refused="is not between|does not divide|must divide|must be a whole number"),
    Case(id="CF-09", build=together(configs({"rope_theta": 0}, {"rope_theta": -1}, {"rms_norm_eps": 0}, {"sliding_window": -5}, {"rope_theta": "big"}, {"rope_parameters": {"rope_type": "default", "rope_theta": 0}}, {"rope_scaling": {"rope_type": "linear", "factor": -2.0}}), config_texts(json.dumps(model_config()).replace("10000.0", "NaN"), json.dumps(model_config()).replace("10000.0", "1e999"))), refused="is not between|must be a number|NaN is no JSON number|beyond what a float holds"),
    Case(id="CF-10", build=together(config_texts(deep("[", "]", 200_000), deep('{"a":', "}", 200_000)), recipe(deep("[", "]", 20_000), deep("{a: ", "}", 20_000), "- " * 20_000)), refused="nested more than"),
    Case(id="CF-11", build=together(config_texts(json.dumps(model_config()).replace("10000.0", MILLION)), recipe(f"name: {MILLION}")), refused="1,000,000 digits"),
    Case(id="CF-12", build=together(config_texts('{"a":1,"a":2}'), recipe("name: a\nname: b")), refused="is given twice"),
    Case(id="CF-13", build=together(configs({"model_type": "lama"}, {"model_type": None}, {"hiden_size": 8, "hidden_size": None}, {"num_hiden_layers": 2, "num_hidden_layers": None}, {"sliding_windw": 4}), config_texts(json.dumps(model_config()).replace("hidden_size", "hiden_size"))), refused="Did you mean|known are"),
    Case(id="CF-14", build=configs({"quantization_config": {"quant_method": "gptq", "bits": 0}}, {"quantization_config": {"quant_method": "gptq", "bits": 64}}, {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 0}}, {"quantization_config": {"quant_method": "os.system"}}, {"quantization_config": {"linear_class": "evil.Linear"}}, {"quantization_config": "fp8"}), refused="bits are not between|no group size|no plain name|names a class|must be an object"),
    Case(id="CF-15", build=generation('{"max_length": 1000000000000}', '{"temperature": NaN}', '{"top_p": 2}', '{"temperature": -1}', '{"top_k": 1.5}', '{"num_beams": 0}', '{"eos_token_id": "0"}', '{"eos_token_id": [0, 4294967296]}', "[]", '{"top_p": 1e999}'), refused="is not between|no JSON number|must be a whole number|no token id|JSON object|beyond what a float"),
    Case(id="CF-16", build=configs({"hidden_act": "${env:HOME}"}, {"torch_dtype": "${oc.env:SECRET}"}, {"text_config": {"a": ["${oc.env:SECRET}"]}}), refused="asks to be filled in"),
    Case(id="CF-17", build=configs({"vocab_file": "../../etc/passwd"}, {"weights": "/etc/passwd"}, {"text_config": {"path": "..\\..\\x"}}, {"x": "~/secret"}, {"x": ["file:///etc/passwd"]}), refused="path outside the folder"),
    Case(id="CF-18", build=together(config_texts(lambda: json.dumps(model_config(x="a" * (17 << 20)))), generation('{"x": "' + "a" * (17 << 20) + '"}'), recipe("a: " + "x" * (17 << 20))), refused="over the limit"),
]  # fmt: skip
