"""What is mutated: for each kind of file its seeds, how a mutant is put in place, and how it is opened and compared."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orrery.cli.pipeline.recipe import RunRecipe
from orrery.kit.config import digest, resolve
from orrery.kit.errors import OrreryError
from orrery.kit.yaml import parse_yaml
from tests.hostile import seeds
from tests.hostile.mutate import Kind
from tests.hostile.openers import OPENERS
from tests.kit import fuzz_gguf

TEMPLATES = [
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{{ bos_token }}{%- set ns = namespace(first=true) -%}{%- macro call(c) -%}{{ c.name }}({{ c.arguments | tojson }}){%- endmacro -%}"
    "{%- for m in messages if m.role != 'system' -%}{%- if ns.first and loop.index0 == 0 -%}{{ tools | tojson(indent=2) if tools else '' }}"
    "{%- set ns.first = false -%}{%- endif -%}[{{ m['role'] | upper | trim }}] {{ m.content.strip().split('\\n')[-1] }}"
    "{%- for c in m.tool_calls or [] -%}{{ call(c.function) }}{%- endfor -%}{%- endfor -%}",
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% else %}{% set system = 'x' * 3 %}{% endif %}"
    "{{ system | replace('e', '3') ~ (messages | length) ~ messages[1:] | map(attribute='role') | join(', ') }}"
    "{{ raise_exception('no') if messages | selectattr('role', 'equalto', 'tool') | list else '' }}{{ strftime_now('%Y') }}",
]
MESSAGES = [
    {"role": "system", "content": "be\nbrief"},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": "hi"},
]


@dataclass(frozen=True)
class Target:
    """
    Attributes:
        seeds: valid contents of the file.
        kind: how it is mutated.
        share: how often it is drawn, relative to the others.
        prepare: makes the folder around the file, once for each process.
        open: puts the content in place and opens it; returns when it is accepted, raises OrreryError when refused.
    """

    name: str
    seeds: list[bytes]
    kind: Kind
    share: int
    prepare: Callable[[Path], object]
    open: Callable[[Path, bytes], object]


def opened(opener: str, file: str, inside: bool = False) -> Callable[[Path, bytes], object]:
    """Write the content to `file` of the folder and open it (or, `inside`, the folder) in the usual way."""

    def run(folder: Path, content: bytes) -> object:
        (folder / file).write_bytes(content)
        return OPENERS[opener](folder if inside else folder / file)

    return run


def safetensors_file(folder: Path, content: bytes) -> None:
    """What we accept the library reads to equal arrays."""
    from safetensors import safe_open

    from orrery.kit.safetensors import open_safetensors

    path = folder / "x.safetensors"
    path.write_bytes(content)
    with open_safetensors(path) as ours:
        read = {name: ours.raw(name) for name in ours.tensors}
        with safe_open(path, framework="pt") as theirs:
            assert set(theirs.keys()) == set(read), "the library finds other tensors"
            for name, data in read.items():
                if ours.tensors[name].dtype not in ("F4", "F6_E2M3", "F6_E3M2"):  # torch has no such numbers
                    _equal(name, data, ours.tensors[name].shape, theirs)


def _equal(name: str, data: np.ndarray, shape: tuple[int, ...], theirs: object) -> None:
    import torch

    tensor = theirs.get_tensor(name)  # type: ignore[attr-defined]
    assert tuple(tensor.shape) == shape, f"{name}: the library gives the shape {tuple(tensor.shape)}"
    flat = (
        tensor.contiguous().flatten().view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    )
    assert np.array_equal(flat, data), f"{name}: the library gives other bytes"


def gguf_file(folder: Path, content: bytes) -> None:
    """What we accept the gguf package, where it accepts it too, reads to equal arrays."""
    import gguf

    from orrery.kit.gguf import GgufFile

    path = folder / "x.gguf"
    path.write_bytes(content)
    fuzz_gguf.open_it(path)
    try:
        theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    except Exception:  # its refusals are of many kinds, and it refuses some of what is whole
        return
    with GgufFile.open(path) as ours:
        for name in ours.tensors:
            if name in theirs:
                there = np.ascontiguousarray(theirs[name].data).view(np.uint8).ravel()
                assert np.array_equal(ours.raw(name).ravel(), there), f"{name}: the package gives other bytes"


def chat_template(folder: Path, content: bytes) -> None:
    from orrery.text.chat import ChatFormat

    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise OrreryError("not UTF-8") from None
    made = ChatFormat.from_template(text, bos_token="<s>", eos_token="</s>").text(
        MESSAGES, add_generation_prompt=True
    )
    assert isinstance(made, str)


def manifest(folder: Path, content: bytes) -> object:
    """The head of a checkpoint; one that is JSON gets the digest that makes it look whole."""
    try:
        value = json.loads(content)
        value["sha256"] = digest({"format": value["format"], "files": value["files"]})
        content = json.dumps(value).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    there = folder / "run" / "step-00000003"
    (there / "manifest.json").write_bytes(content)
    return OPENERS["one_checkpoint"](there)


def checkpoint_state(folder: Path, content: bytes) -> object:
    """A checkpoint's file that is not a tensor, with hashes that agree."""
    return _consistent(folder, "state.json", content)


def checkpoint_tensors(folder: Path, content: bytes) -> object:
    """A checkpoint's tensors, with hashes that agree."""
    return _consistent(folder, "model.safetensors", content)


def _consistent(folder: Path, name: str, content: bytes) -> object:
    import hashlib

    there = folder / "run" / "step-00000003"
    whole = {item.name: item.read_bytes() for item in there.iterdir() if item.name != "manifest.json"}
    before = whole[name]
    whole[name] = content
    files = {
        key: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for key, data in whole.items()
    }
    body = {"format": 1, "files": files}
    (there / name).write_bytes(content)
    (there / "manifest.json").write_text(json.dumps({**body, "sha256": digest(body)}))
    try:
        return OPENERS["one_checkpoint"](there)
    finally:
        (there / name).write_bytes(before)


def shard_file(name: str) -> Callable[[Path, bytes], object]:
    """A file of a prepared data set, with hashes that agree."""

    def run(folder: Path, content: bytes) -> object:
        import hashlib

        there = folder / "data"
        whole = (there / "whole").read_bytes()
        head = json.loads(whole)
        before = (there / name).read_bytes()
        (there / name).write_bytes(content)
        if name == "data.json":
            head = None
        else:
            record = head["splits"]["train"]["files"][name]
            record |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            (there / "data.json").write_text(json.dumps(head))
        try:
            from orrery.data.shard import Shards

            data = Shards(there)
            return [(data[i].sum(), data.info(i)) for i in range(min(len(data), 10))]
        finally:
            (there / name).write_bytes(before)
            (there / "data.json").write_bytes(whole)

    return run


def all_targets(scratch: Path) -> list[Target]:
    """Every target; `scratch` is an empty folder for making the seeds."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    model = seeds.model_folder(scratch / "model")
    sharded = seeds.sharded_folder(scratch / "sharded")
    data = seeds.shard_folder(scratch / "data")
    run = seeds.checkpoint_folder(scratch / "run") / "step-00000003"
    pq.write_table(
        pa.table({"text": ["one", "two", "three"] * 9, "n": list(range(27))}),
        scratch / "x.parquet",
        write_page_checksum=True,
    )
    weights = [
        seeds.safetensors_bytes(
            {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4), np.float32)},
            __metadata__={"format": "pt"},
        ),
        seeds.with_header(
            '{"x":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"y":{"dtype":"BOOL","shape":[3],"data_offsets":[8,11]},"z":{"dtype":"I64","shape":[],"data_offsets":[11,19]}}   ',
            bytes(19),
        ),
        seeds.with_header("{}"),
    ]
    spec = seeds.tokenizer()
    rich = spec | {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"String": " "}, "content": "a"}]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[ab]+|c"}, "behavior": "Isolated", "invert": False},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": {"type": "Fuse"},
    }  # fmt: skip
    unigram = spec | {
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<s>", 0.0], ["a", -1.0], ["b", -2.0], ["ab", -1.5]],
        }
    }
    generation = {
        "bos_token_id": 0,
        "eos_token_id": [0, 1],
        "max_length": 20,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 4,
        "do_sample": True,
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {"content": "<s>"},
        "model_max_length": 10**30,
    }
    lines = b'{"text": "one"}\n{"n": [1, 2.5, null], "text": "two \\u00e9"}\n\n{"text": "three"}\n'
    dumps = lambda value: json.dumps(value).encode()  # noqa: E731

    def whole(name: str) -> Callable[[Path], object]:
        makers = {
            "model": seeds.model_folder,
            "sharded": seeds.sharded_folder,
            "data": _data,
            "run": seeds.checkpoint_folder,
        }
        return lambda folder: makers[name](folder / ("" if name in ("model", "sharded") else name))

    resolve(
        RunRecipe, parse_yaml(seeds.RECIPE)
    )  # its validator is made once a process, and no mutant's doing
    return [
        Target("safetensors", weights, "safetensors", 30, lambda folder: None, safetensors_file),
        Target("gguf", fuzz_gguf.seeds(), "bytes", 25, lambda folder: None, gguf_file),
        Target("weights of a model", [(model / "model.safetensors").read_bytes()], "safetensors", 6, whole("model"), opened("running_model", "model.safetensors", True)),
        Target("config.json", [dumps(seeds.model_config()), dumps(seeds.model_config(rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}))], "json", 12, whole("model"), opened("running_model", "config.json", True)),
        Target("shape of config.json", _published(), "json", 10, whole("model"), opened("config", "config.json", True)),
        Target("generation_config.json", [dumps(generation)], "json", 3, whole("model"), opened("model", "generation_config.json", True)),
        Target("index", [(sharded / "model.safetensors.index.json").read_bytes()], "json", 4, whole("sharded"), opened("model", "model.safetensors.index.json", True)),
        Target("tokenizer.json", [dumps(spec), dumps(rich), dumps(unigram)], "json", 14, lambda folder: None, opened("tokenizer", "tokenizer.json")),
        Target("tokenizer_config.json", [dumps(settings)], "json", 3, whole("model"), opened("tokenizer", "tokenizer_config.json", True)),
        Target("recipe", [seeds.RECIPE.encode()], "text", 12, lambda folder: None, opened("recipe", "r.yaml")),
        Target("chat template", [text.encode() for text in TEMPLATES], "text", 12, lambda folder: None, chat_template),
        Target("head of shards", [(data / "data.json").read_bytes()], "json", 5, whole("data"), shard_file("data.json")),
        Target("index of shards", [(data / "train.index").read_bytes()], "bytes", 4, whole("data"), shard_file("train.index")),
        Target("shard", [(data / "train-00000.bin").read_bytes()], "bytes", 2, whole("data"), shard_file("train-00000.bin")),
        Target("lineage of shards", [(data / "train.jsonl").read_bytes()], "text", 3, whole("data"), shard_file("train.jsonl")),
        Target("manifest of a checkpoint", [(run / "manifest.json").read_bytes()], "json", 5, whole("run"), manifest),
        Target("state of a checkpoint", [(run / "state.json").read_bytes()], "json", 3, whole("run"), checkpoint_state),
        Target("tensors of a checkpoint", [(run / "model.safetensors").read_bytes()], "safetensors", 3, whole("run"), checkpoint_tensors),
        Target("JSON lines", [lines], "text", 6, lambda folder: None, opened("lenient_source", "x.jsonl")),
        Target("gzip", [gzip.compress(lines, mtime=0), gzip.compress(b"text " * 2000, mtime=0)], "bytes", 4, lambda folder: None, opened("source", "x.jsonl.gz")),
        Target("parquet", [(scratch / "x.parquet").read_bytes()], "bytes", 6, lambda folder: None, opened("source", "x.parquet")),
    ]  # fmt: skip


def _data(folder: Path) -> None:
    seeds.shard_folder(folder)
    (folder / "whole").write_bytes((folder / "data.json").read_bytes())


def _published() -> list[bytes]:
    """A config of every family, as small as they come."""
    from orrery.model.families import BY_TYPE

    base = seeds.model_config()
    of_their_own: dict[str, dict[str, Any]] = {
        "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": True, "mlp_only_layers": [], "decoder_sparse_step": 1},
        "gemma3_text": {"query_pre_attn_scalar": 4, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
        "gemma3": {"text_config": base | {"model_type": "gemma3_text"}},
        "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32, "activation_function": "gelu_new"},
        "gpt_neox": {"rotary_pct": 1.0},
        "deepseek_v3": {"q_lora_rank": 4, "kv_lora_rank": 4, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4, "n_routed_experts": 4, "n_shared_experts": 1,
                        "num_experts_per_tok": 2, "moe_intermediate_size": 8, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "scoring_func": "sigmoid",
                        "topk_method": "noaux_tc", "routed_scaling_factor": 2.5, "norm_topk_prob": True, "num_key_value_heads": 2},
        "t5": {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2, "relative_attention_num_buckets": 8, "feed_forward_proj": "relu"},
        "mamba2": {"num_heads": 4, "head_dim": 4, "state_size": 4, "expand": 2, "n_groups": 1, "conv_kernel": 4, "chunk_size": 8},
        "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_head": 4, "mamba_d_state": 4, "mamba_expand": 2, "mamba_n_groups": 1, "layer_types": ["mamba", "attention"]},
    }  # fmt: skip
    return [json.dumps(base | {"model_type": kind} | of_their_own.get(kind, {})).encode() for kind in BY_TYPE]
