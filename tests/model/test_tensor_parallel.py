"""A model divided among two processes over gloo computes what it computes in one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model import Decoder
from orrery.model.adapters.slots import Adapted, Using
from orrery.model.cache import Cached, KVCache
from orrery.model.packed import Packed
from orrery.model.quantised import use_native_kernels
from orrery.model.tensor_parallel import Ranks, parallelise
from tests.model.shapes import ids, tiny

DENSE = [
    "gqa", "mha", "mqa", "qk-norm", "local-and-global", "alibi", "learned", "t5", "softcap", "sinks-window", "layernorm", "post-norm",
    "sandwich", "parallel", "biases", "scales", "untied", "plain-mlp",
]  # fmt: skip
TOKENS = 24


def greedy(model: Decoder, n: int = 8) -> tuple[Tensor, list[int]]:
    """(logits of a packed pass, ids that follow its tokens by a cache, greedily)."""
    prompt, made = ids(TOKENS), list[int]()
    with torch.inference_mode():
        logits = model.head(model(prompt, Packed([TOKENS])))
        cache = KVCache(model, rows=1, capacity=TOKENS + n)
        tokens, at = prompt, 0
        for _ in range(n):
            hidden = model(tokens, Cached(cache, [(0, at, len(tokens))]))
            made.append(int(model.head(hidden[-1:]).argmax()))
            tokens, at = torch.tensor(made[-1:]), at + len(tokens)
    return logits, made


def rank_main(rank: int, folder: str, work: Callable[[Ranks], Any]) -> None:
    """One of two processes: join, work, leave what came of it."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        torch.save(work(Ranks(rank, 2)), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def on_two_ranks(folder: Path, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` gives on each."""
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=rank_main, args=(rank, str(folder), work)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(100)
        process.kill()
    assert [process.exitcode for process in ranks] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def every_shape(ranks: Ranks) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in DENSE:
        model = parallelise(tiny(name), ranks)
        found[name] = (*greedy(model), sum(p.numel() for p in model.parameters()))
    return found


def special(ranks: Ranks) -> dict[str, Any]:
    """A width the vocabulary does not divide into, untied with a bias; norms of every head; a gate; our own kernels."""
    found = {}
    for name, model in cases().items():
        model = parallelise(model, ranks)
        found[name] = greedy(model)
    model = parallelise(tiny("gqa"), ranks)
    with torch.inference_mode():
        alone = model(ids(3), Packed([3]))
        among = model(torch.cat((ids(3), ids(9, seed=2))), Packed([3, 9]))[:3]
    found["batch"] = (alone, among)
    ranks.together = False
    with pytest.raises(OrreryError, match="divided among ranks"):
        model(ids(3), Packed([3]))
    return found


def cases() -> dict[str, Decoder]:
    native = tiny("gqa")
    use_native_kernels(native)
    return {
        "head bias": tiny("untied", head_bias=True),
        "each head": tiny("gqa", qk_norm="each_head"),
        "gate": tiny("gqa", attention_gate=True),
        "clip": tiny("gqa", qkv_clip=0.3),
        "native": native,
    }


def test_two_ranks_give_the_tokens_of_one(tmp_path: Path) -> None:
    first, second = on_two_ranks(tmp_path, every_shape)
    for name in DENSE:
        whole = tiny(name)
        logits, made = greedy(whole)
        for found in (first, second):
            assert (found[name][0] - logits).abs().max() < 1e-5, name
            assert found[name][1] == made, name
        assert torch.equal(first[name][0], second[name][0]), name  # ranks never disagree
        # Half of every matrix, and all of the vectors; a kv head that both need is there twice.
        assert first[name][2] < 0.62 * sum(p.numel() for p in whole.parameters()), name


def test_what_else_is_divided(tmp_path: Path) -> None:
    first, second = on_two_ranks(tmp_path, special)
    for name, model in cases().items():
        logits, made = greedy(model)
        assert (first[name][0] - logits).abs().max() < 1e-5, name
        assert first[name][1] == second[name][1] == made, name
    alone, among = first["batch"]
    assert (alone - among).abs().max() < 1e-5


def refused(model: Decoder, size: int, words: str) -> None:
    before = [p.shape for p in model.parameters()]
    with pytest.raises(OrreryError, match=words):
        parallelise(model, Ranks(0, size))
    assert [p.shape for p in model.parameters()] == before  # nothing was cut


@pytest.mark.parametrize(
    "name", ["moe-softmax", "moe-sigmoid", "latent", "state-space", "delta-rule", "hybrid"]
)
def test_what_cannot_be_divided_is_refused(name: str) -> None:
    refused(tiny(name), 2, "is not divided among ranks")


def test_adapters_norms_and_numbers_that_do_not_divide_are_refused() -> None:
    refused(tiny("gqa", qk_norm="width"), 2, "normed over all heads together")
    refused(tiny("gqa"), 3, "4 heads, 2 kv heads and inner widths .40. do not all divide among 3 ranks")
    adapted = tiny("gqa")
    adapted.blocks[1].mlp.up_proj = Adapted(adapted.blocks[1].mlp.up_proj, Using())
    refused(adapted, 2, "without adapters")


def test_ranks_come_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(OrreryError, match="torchrun"):
        Ranks.join()


def test_the_shares() -> None:
    assert [Ranks(rank, 4).slice(8) for rank in range(4)] == [
        slice(0, 2),
        slice(2, 4),
        slice(4, 6),
        slice(6, 8),
    ]


def test_surgery_is_recorded() -> None:
    """Slices of one rank: cut from a model that needs nobody else to be cut."""
    model = parallelise(tiny("mqa"), Ranks(1, 2))
    (entry,) = model.surgery
    assert entry["operation"] == "tensor_parallel" and entry["arguments"] == {"rank": 1, "ranks": 2}
    whole = tiny("mqa")
    a, b = model.blocks[1].attn, whole.blocks[1].attn
    assert torch.equal(a.q_proj.weight, b.q_proj.weight[24:])  # two of four heads of 12
    assert torch.equal(a.k_proj.weight, b.k_proj.weight)  # the one kv head, on both
    assert torch.equal(a.o_proj.local.weight, b.o_proj.weight[:, 24:])
    assert torch.equal(
        model.blocks[0].mlp.down_proj.local.weight, whole.blocks[0].mlp.down_proj.weight[:, 20:]
    )
    assert torch.equal(
        model.embed.local.weight[:-1], whole.embed.weight[31:]
    )  # 61 rows: 31 and 30, and one of zeros
    assert not model.embed.local.weight[-1].any()
