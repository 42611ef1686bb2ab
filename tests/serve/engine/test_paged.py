"""The paged context against the contiguous cache and the packed forward: same model, same tokens, every kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.model import Decoder, DecoderConfig
from orrery.model.cache import Cached, KVCache
from orrery.model.config import GatedDelta, Mamba2
from orrery.model.mla import Mla
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.positions import Alibi, Learned, LongRope, NoPosition, Rope, T5Relative
from orrery.serve.engine.paged import Paged, Piece, TableRows
from orrery.serve.engine.paged_reference import paged_attention
from orrery.serve.engine.store import PagedStore, absorbed, cache_groups, latent_layers

BLOCK = 4
LONG = LongRope(short_factor=(1.0,) * 4, long_factor=(2.0,) * 4, factor=4.0, original_max_positions=16)
SHAPES: dict[str, dict[str, Any]] = {
    "full": {},
    "window": {"window": 6},
    "mixed": {"window": 5, "layer_pattern": ("local", "global")},
    "softcap-sinks": {"attention_softcap": 4.0, "sinks": True},
    "latent": {"attention": Mla(kv_lora_rank=12, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=6), "n_kv_heads": 4},
    "learned": {"position": Learned(max_positions=64)},
    "alibi": {"position": Alibi()},
    "t5": {"position": T5Relative(buckets=8, max_distance=20)},
    "longrope": {"position": Rope(scaling=LONG)},
    "hybrid": {
        "recurrent": GatedDelta(n_key_heads=2, n_value_heads=4, key_dim=8, value_dim=8, chunk=8),
        "layer_pattern": ("recurrent", "global"),
    },
    "mamba": {
        "recurrent": Mamba2(n_heads=4, head_dim=8, state_dim=8, chunk=8),
        "layer_pattern": ("recurrent",), "sublayers": "one", "position": NoPosition(),
    },
}  # fmt: skip


def make(name: str, **changes: Any) -> Decoder:
    shape = {
        "vocab_size": 50, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
        "feed_forward": Mlp(d_ff=48), "max_positions": 64,
    }  # fmt: skip
    model = Decoder(DecoderConfig(**{**shape, **SHAPES[name], **changes}), seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
        for block in model.blocks:
            if block.attn is not None and block.attn.sinks is not None:
                block.attn.sinks.copy_(torch.linspace(-1, 2, 4))
    return model


class Pool:
    """A store and tables that hand out blocks in a scattered order."""

    def __init__(self, model: Decoder, *, dtype: str = "float32", rows: int = 4) -> None:
        groups = cache_groups(model)
        self.model = model
        self.store = PagedStore(model, [1 + rows * 16] * len(groups), block_size=BLOCK, dtype=dtype)  # type: ignore[bad-argument-type]
        self.rows = TableRows(groups=len(groups), rows=rows, blocks=16)
        for row in range(rows):
            assert self.rows.take() == row
            blocks = torch.arange(1 + row, 1 + rows * 16, rows).flip(0).tolist()
            self.rows.update(row, [blocks] * len(groups))

    @torch.inference_mode()
    def run(self, tokens: Sequence[int], *work: Piece) -> torch.Tensor:
        with absorbed(latent_layers(self.model)):
            return self.model(torch.tensor(tokens), Paged(self.store, self.rows, work))


def piece(row: int, start: int, n: int, span: int = 0, tree: tuple[int, ...] = ()) -> Piece:
    return Piece(row=row, ticket=row, start=start, n=n, span=span, tree=tree)


def ids(n: int, seed: int = 0) -> list[int]:
    return torch.randint(0, 50, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("name", SHAPES)
def test_chunks_and_single_tokens_equal_the_packed_forward(name: str) -> None:
    model, text = make(name), ids(23)
    with torch.inference_mode():
        whole = model(torch.tensor(text), Packed([23]))
    pool = Pool(model)
    parts = [pool.run(text[:9], piece(0, 0, 9, 23)), pool.run(text[9:20], piece(0, 9, 11, 23))]
    parts += [pool.run(text[i : i + 1], piece(0, i, 1, 23)) for i in range(20, 23)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["full", "mixed", "latent", "t5", "hybrid"])
def test_a_mixed_pass_equals_the_contiguous_cache(name: str) -> None:
    model, a, b = make(name), ids(18, 1), ids(7, 2)
    cache, pool = KVCache(model, rows=2, capacity=32), Pool(model)
    with torch.inference_mode():
        model(torch.tensor(a[:17]), Cached(cache, [(0, 0, 17)]))
        plain = model(torch.tensor([a[17], *b]), Cached(cache, [(0, 17, 1), (1, 0, 7)]))
    pool.run(a[:17], piece(2, 0, 17))
    paged = pool.run([a[17], *b], piece(2, 17, 1), piece(1, 0, 7))
    torch.testing.assert_close(paged, plain, atol=2e-5, rtol=1e-4)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_query_has_the_same_bits_however_it_is_cut_and_whoever_is_there(data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 100)))
    window = data.draw(st.sampled_from([None, 3, 6]))
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3))
    keys, values = (torch.randn(40, BLOCK, 2, 8, generator=generator) for _ in range(2))
    tables = (1 + torch.randperm(24, generator=generator)).view(3, 8).int()
    owner = torch.tensor([s for s, n in enumerate(lengths) for _ in range(n)], dtype=torch.int32)
    positions = torch.tensor([p for n in lengths for p in range(n)])
    q = torch.randn(len(owner), 4, 8, generator=generator)
    chosen = {"value_dim": 8, "scale": 0.35, "window": window, "softcap": None, "sinks": None}
    together = paged_attention(q, keys, values, tables, owner, positions, **chosen)
    order = torch.randperm(len(owner), generator=generator)
    cut = data.draw(st.integers(0, len(owner)))
    parts = [
        paged_attention(q[i], keys, values, tables, owner[i], positions[i], **chosen)
        for i in (order[:cut], order[cut:])
    ]
    assert torch.equal(torch.cat(parts), together[order])


def test_attention_by_hand_and_garbage_in_unseen_blocks() -> None:
    keys = torch.full((3, 2, 1, 1), torch.nan)  # block 0 belongs to nobody
    values = keys.clone()
    keys[2, :, 0, 0], values[2, :, 0, 0] = torch.tensor([0.0, 1.0]), torch.tensor([10.0, 20.0])
    keys[1, 0], values[1, 0] = 2.0, 40.0  # position 2, the last
    tables, owner = torch.tensor([[2, 1]], dtype=torch.int32), torch.tensor([0], dtype=torch.int32)
    q, where = torch.ones(1, 1, 1), (tables, owner, torch.tensor([2]))
    plain = {"value_dim": 1, "scale": 1.0, "softcap": None}
    e = torch.tensor([0.0, 1.0, 2.0]).exp()
    v = torch.tensor([10.0, 20.0, 40.0])
    out = paged_attention(q, keys, values, *where, window=None, sinks=None, **plain)
    assert out.item() == pytest.approx(((e * v).sum() / e.sum()).item(), rel=1e-6)
    near = paged_attention(q, keys, values, *where, window=2, sinks=None, **plain)
    assert near.item() == pytest.approx(((e * v)[1:].sum() / e[1:].sum()).item(), rel=1e-6)
    sunk = paged_attention(q, keys, values, *where, window=None, sinks=torch.tensor([3.0]), **plain)
    assert sunk.item() == pytest.approx(
        ((e * v).sum() / (e.sum() + torch.tensor(3.0).exp())).item(), rel=1e-6
    )


@pytest.mark.parametrize("name", ["full", "mixed", "latent", "alibi", "softcap-sinks"])
def test_a_tree_of_drafts_has_the_bits_of_each_of_its_paths(name: str) -> None:
    """Attention alone is held to bits here: torch's float products may differ in the last one between one row and six."""
    model, text = make(name), ids(11)
    tree, parents = [7, 8, 9, 10, 11, 12], (-1, -1, 0, 1, 2)  # behind 7: 8-10-12 and 9-11
    pool = Pool(model)
    pool.run(text, piece(0, 0, 11))
    hidden = pool.run(tree, piece(0, 11, 6, tree=parents))
    for path in ([0, 1, 3, 5], [0, 2, 4]):
        alone = Pool(model)
        alone.run(text, piece(0, 0, 11))
        plain = alone.run([tree[i] for i in path], piece(0, 11, len(path)))
        torch.testing.assert_close(hidden[path], plain, atol=2e-5, rtol=1e-4)


def test_the_keys_of_an_accepted_path_move_into_place() -> None:
    model, text = make("mixed"), ids(11)
    pool, plain = Pool(model), Pool(model)
    pool.run(text, piece(0, 0, 11))
    pool.run([7, 8, 9, 10, 11], piece(0, 11, 5, tree=(-1, -1, 0, 1)))
    for group in range(2):
        table = pool.rows.tensors[group][0]
        places = [int(table[s // BLOCK]) * BLOCK + s % BLOCK for s in (13, 15, 12, 13)]
        pool.store.move(group, places[:2], places[2:])  # the path 7-9-11
    plain.run(text, piece(0, 0, 11))
    plain.run([7, 9, 11], piece(0, 11, 3))
    torch.testing.assert_close(
        pool.run([5], piece(0, 14, 1)), plain.run([5], piece(0, 14, 1)), atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.03), ("int8", 0.05), ("float8", 0.25)])
@pytest.mark.parametrize("name", ["mixed", "latent", "alibi"])
def test_small_types_are_near(name: str, dtype: str, bound: float) -> None:
    model, text = make(name), ids(20)
    with torch.inference_mode():
        whole = model(torch.tensor(text), Packed([20]))
    pool = Pool(model, dtype=dtype)
    hidden = torch.cat([pool.run(text[:12], piece(0, 0, 12)), pool.run(text[12:], piece(0, 12, 8))])
    assert (hidden - whole).norm() < bound * whole.norm()
    assert not torch.equal(hidden, whole)


def test_hooks_see_and_change_the_pattern_of_each_piece() -> None:
    model, a, b = make("mixed"), ids(10, 1), ids(3, 2)
    pool = Pool(model)
    pool.run(a[:8], piece(0, 0, 8))
    seen: list[torch.Tensor] = []
    handle = model.blocks[0].attn.pattern.register_forward_hook(lambda m, i, o: seen.append(o.clone()))
    plain = pool.run([*a[8:], *b], piece(0, 8, 2), piece(1, 0, 3))
    assert [tuple(p.shape) for p in seen] == [(4, 2, 10), (4, 3, 3)]
    for pattern in seen:
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:2]))
    handle.remove()

    def first_key_alone(module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        changed = torch.zeros_like(out)
        changed[..., 0] = 1.0
        return changed if out.shape[1] == 3 else out

    handle = model.blocks[1].attn.pattern.register_forward_hook(first_key_alone)
    changed = pool.run([*a[8:], *b], piece(0, 8, 2), piece(1, 0, 3))
    handle.remove()
    assert torch.equal(changed[:3], plain[:3])
    assert not torch.allclose(changed[3:], plain[3:])


def test_the_tables_of_a_row_are_written_where_they_changed() -> None:
    rows = TableRows(groups=2, rows=2, blocks=4)
    row = rows.take()
    rows.update(row, [[5, 6], [7]])
    rows.update(row, [[5, 9, 8], [7]])
    assert rows.tensors[0][row].tolist() == [5, 9, 8, 0]
    assert rows.tensors[1][row].tolist() == [7, 0, 0, 0]
    rows.give(row)
    assert rows.take() == row
