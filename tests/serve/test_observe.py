"""What a request can look at: against the logits, against `Explicit`, in every context, and without changing a bit."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Observe, Steering
from orrery.model import Cached, Decoder, Explicit, KVCache, Packed, record
from orrery.model.context import Context
from orrery.serve.engine.paged import Paged, Piece, TableRows
from orrery.serve.engine.store import PagedStore, absorbed, cache_groups, latent_layers
from orrery.serve.extras import Extras
from orrery.serve.observable import check_observe, observable, observed_numbers
from orrery.serve.observe import Observer, Watched
from orrery.serve.steer import steered, steering_vectors
from tests.model.shapes import SHAPES, VOCAB, ids, tiny

LENS, ATTENTION, ENTROPY = (
    Observe(what=what, prompt=True) for what in ("logit_lens", "attention", "attention_entropy")
)
ATTENDING = [name for name in SHAPES if name not in ("state-space",)]


@torch.inference_mode()
def looked(
    model: Decoder, tokens: Tensor, ctx: Context, *watched: Watched
) -> tuple[Tensor, list[dict[str, Any]]]:
    observer = Observer(model, watched)
    with observer.attached(ctx):
        hidden = model(tokens, ctx)
    results = observer.results()
    assert json.loads(json.dumps(results)) == results
    return hidden, results


@torch.inference_mode()
def patterns(model: Decoder, tokens: Tensor) -> dict[int, Tensor]:
    """(H, L, L) by layer, as `Explicit` shows them."""
    layers = {i: f"blocks.{i}.attn.pattern" for i, block in enumerate(model.blocks) if block.attn is not None}
    with record(model, layers.values()) as seen:
        model(tokens, Explicit([len(tokens)]))
    return {i: seen[name][0] for i, name in layers.items()}


@torch.inference_mode()
@pytest.mark.parametrize("name", ["gqa", "post-norm", "scales", "softcap", "untied", "latent", "hybrid"])
def test_the_lens_behind_the_last_layer_is_what_the_model_says(name: str) -> None:
    model, lengths = tiny(name), (5, 3, 6)
    tokens = ids(sum(lengths))
    wish = Observe(what="logit_lens", top=VOCAB, prompt=True)
    hidden, results = looked(
        model,
        tokens,
        Packed(lengths),
        Watched(piece=2, prompt=4, observe=(wish,)),
        Watched(piece=0, prompt=5, observe=(Observe(what="logit_lens", layers=(2, 0), top=1),)),
    )
    assert torch.equal(hidden, model(tokens, Packed(lengths)))
    want = model.head(hidden).log_softmax(-1).split(lengths)
    seen = results[0]["logit_lens"]
    assert len(seen) == 6 and {len(layers) for layers in seen} == {3}
    for entry, row in zip(seen, want[2], strict=True):
        assert [len(layer) for layer in entry] == [VOCAB] * 3
        for token, logprob in entry[2]:
            assert logprob == pytest.approx(float(row[token]), abs=1e-5)
        values = [logprob for _, logprob in entry[0]]
        assert values == sorted(values, reverse=True)
        assert math.fsum(map(math.exp, values)) == pytest.approx(1, abs=1e-5)
    (entry,) = results[1]["logit_lens"]  # without the prompt: the row that chose the first new token
    assert entry[0][0][0] == int(want[0][-1].argmax())
    streams = []
    handle = model.blocks[0].register_forward_hook(lambda block, inputs, stream: streams.append(stream))
    model(tokens, Packed(lengths))
    handle.remove()
    early = model.head(model.norm(streams[0])).log_softmax(-1)[4]
    assert entry[1][0] == [int(early.argmax()), pytest.approx(float(early.max()), abs=1e-5)]


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_equals_the_explicit_pattern_in_every_context(name: str) -> None:
    model, tokens, others = tiny(name), ids(11, 3), ids(5, 4)
    want = patterns(model, tokens)
    attends = sorted(want)

    def check(entries: Sequence[Any], positions: Sequence[int]) -> None:
        assert len(entries) == len(positions)
        for layers, position in zip(entries, positions, strict=True):
            assert [bool(heads) for heads in layers] == [i in want for i in range(len(model.blocks))]
            for i in attends:
                got = torch.tensor(layers[i])
                assert got.shape == (model.cfg.n_heads, position + 1)
                torch.testing.assert_close(got, want[i][:, position, : position + 1], atol=1e-5, rtol=0)
                if not model.cfg.sinks:
                    torch.testing.assert_close(got.sum(-1), torch.ones(len(got)), atol=1e-5, rtol=0)

    for ctx in (Packed([5, 11]), Explicit([5, 11])):
        both = torch.cat((others, tokens))
        hidden, (seen,) = looked(model, both, ctx, Watched(piece=1, prompt=11, observe=(ATTENTION,)))
        assert torch.equal(hidden, model(both, type(ctx)([5, 11])))
        check(seen["attention"], range(11))
    cache, plain = KVCache(model, rows=3, capacity=11), KVCache(model, rows=3, capacity=11)
    found: list[Any] = []
    for start, n in ((0, 4), (4, 5), (9, 1), (10, 1)):
        work = [(2, start, n), *([(0, 0, 5)] if not start else [])]
        both = torch.cat((tokens[start : start + n], others)) if not start else tokens[start : start + n]
        hidden, (seen,) = looked(
            model, both, Cached(cache, work), Watched(piece=0, prompt=9, observe=(ATTENTION,))
        )
        with torch.inference_mode():
            assert torch.equal(hidden, model(both, Cached(plain, work)))
        found += seen["attention"]
    check(found, range(11))


def test_entropy_is_that_of_the_weights() -> None:
    model, tokens = tiny("local-and-global"), ids(9)
    _, (seen,) = looked(model, tokens, Packed([9]), Watched(piece=0, prompt=9, observe=(ATTENTION, ENTROPY)))
    for weights, entropies in zip(seen["attention"], seen["attention_entropy"], strict=True):
        for by_head, by_entropy in zip(weights, entropies, strict=True):
            for row, entropy in zip(by_head, by_entropy, strict=True):
                assert entropy == pytest.approx(-sum(w * math.log(w) for w in row if w > 0), abs=1e-5)
    assert seen["attention_entropy"][0] == [[0.0] * 4] * 3  # one key


def test_named_activations_are_those_of_record() -> None:
    model, lengths = tiny("sandwich"), (4, 6)
    tokens = ids(10)
    names = ["blocks.1.residual_mid", "blocks.2.attn.z", "blocks.0"]
    with torch.inference_mode(), record(model, names) as want:
        model(tokens, Packed(lengths))
    wishes = tuple(Observe(what=name, prompt=name == "blocks.0") for name in names)
    _, (seen,) = looked(model, tokens, Packed(lengths), Watched(piece=1, prompt=5, observe=wishes))
    for name, rows in zip(names, ((8, 9), (8, 9), range(4, 10)), strict=True):
        assert torch.equal(torch.tensor(seen[name]), want[name][0][list(rows)])
    assert {len(entry) for entry in seen["blocks.2.attn.z"]} == {4}  # by head


@pytest.mark.parametrize("name", SHAPES)
def test_all_that_is_named_observable_is_there(name: str) -> None:
    model = tiny(name)
    wishes = tuple(Observe(what=what) for what in sorted(observable(model)))
    check_observe(model, wishes, prompt=3, made=2)
    _, (seen,) = looked(model, ids(3), Packed([3]), Watched(piece=0, prompt=3, observe=wishes))
    assert all(len(seen[wish.what]) == 1 for wish in wishes)
    assert not any(name.endswith("pattern") for name in observable(model))


def test_what_is_steered_is_seen_steered() -> None:
    model, tokens = tiny(), ids(4)
    vectors = steering_vectors(model, [Steering(layer=2, vector=(1.0,) * 32, strength=5.0)])
    ctx = Packed([4])
    wish = Observe(what="blocks.2", prompt=True)
    with torch.inference_mode(), record(model, ["blocks.2"]) as plain:
        model(tokens, Packed([4]))
    with steered(model, ctx, {0: vectors}):
        _, (seen,) = looked(model, tokens, ctx, Watched(piece=0, prompt=4, observe=(wish,)))
    assert torch.equal(torch.tensor(seen["blocks.2"]), plain["blocks.2"][0] + 5.0)


@torch.inference_mode()
def test_a_whole_generation_has_an_entry_for_each_token_once() -> None:
    """Prompt in two chunks, three tokens made, a pass that reads everything again: as one forward over all."""
    model, tokens = tiny(), ids(9, 5)
    request = GenerateRequest(
        ids=tokens[:6].tolist(),
        max_tokens=4,
        observe=(Observe(what="blocks.1", prompt=True), Observe(what="blocks.2.residual_mid")),
    )
    extras = Extras(model, request)
    cache = KVCache(model, rows=1, capacity=9)
    for start, n in ((0, 4), (4, 2), (6, 1), (0, 8), (8, 1)):
        ctx = Cached(cache, [(0, start, n)])
        with extras.around(ctx):
            model(tokens[start : start + n], ctx)
    with record(model, ["blocks.1", "blocks.2.residual_mid"]) as want:
        model(tokens, Packed([9]))
    for what, first in (("blocks.1", 0), ("blocks.2.residual_mid", 5)):
        got = torch.tensor(extras.observed[what])
        torch.testing.assert_close(got, want[what][0][first:], atol=2e-5, rtol=1e-5)


def test_what_cannot_be_looked_at_is_refused() -> None:
    model = tiny("parallel")
    for wishes, says in (
        ([Observe(what="blocks.0.atn.z")], "no activation"),
        ([Observe(what="blocks.0.attn.pattern")], "no activation"),
        ([Observe(what="blocks.0.residual_mid")], "no activation"),  # a parallel block has no middle
        ([Observe(what="lm_head")], "no activation"),
        ([Observe(what="blocks.0", layers=(0,))], "takes no layers"),
        ([LENS, LENS], "twice"),
        ([Observe(what="logit_lens", layers=(3,))], "layers"),
        ([Observe(what="attention", layers=(1, 1))], "each once"),
        ([Observe(what="logit_lens", top=0)], "top"),
        ([Observe(what="attention", prompt=True)], "4,000,000"),
    ):
        with pytest.raises(OrreryError, match=says):
            check_observe(model, wishes, prompt=1000, made=1000)
    check_observe(model, [Observe(what="attention", layers=(0,))], prompt=10, made=50)


@pytest.mark.parametrize("prompt", [False, True])
def test_the_bound_is_what_a_request_gives(prompt: bool) -> None:
    model, tokens = tiny(), ids(8)
    for what in ("attention", "attention_entropy", "logit_lens", "blocks.0"):
        wish = Observe(what=what, prompt=prompt)
        _, (seen,) = looked(model, tokens, Packed([8]), Watched(piece=0, prompt=5, observe=(wish,)))

        def count(found: Any) -> int:
            return sum(map(count, found)) if isinstance(found, list) else 1

        assert count(seen[what]) <= observed_numbers(model, wish, prompt=5, made=4)
        if what != "blocks.0":
            assert count(seen[what]) == observed_numbers(model, wish, prompt=5, made=4)


@pytest.mark.parametrize("name", ["gqa", "local-and-global", "sinks-window", "alibi-window", "latent"])
@torch.inference_mode()
def test_pages_show_the_same_attention_lens_and_activations(name: str) -> None:
    """Two sequences over a pool of blocks, one of them in chunks beside the other."""
    model, tokens, others = tiny(name), ids(11, 3), ids(4, 4)
    with absorbed(latent_layers(model)):
        groups = cache_groups(model)
        store = PagedStore(model, [12] * len(groups), block_size=4)
    rows = TableRows(groups=len(groups), rows=2, blocks=3)
    for row, blocks in enumerate(([5, 2, 9], [7, 3, 1])):
        rows.update(row, [blocks] * len(groups))
    wishes = (ATTENTION, ENTROPY, LENS, Observe(what="blocks.1", prompt=True))
    _, (want,) = looked(model, tokens, Packed([11]), Watched(piece=0, prompt=11, observe=wishes))
    found: dict[str, list[Any]] = {wish.what: [] for wish in wishes}
    for start, n in ((0, 5), (5, 5), (10, 1)):
        beside = [Piece(row=0, ticket=0, start=start, n=1, span=4)] if start < 4 else []
        work = [*beside, Piece(row=1, ticket=1, start=start, n=n, span=11)]
        read = torch.cat((others[: len(beside)], tokens[start : start + n]))
        with absorbed(latent_layers(model)):
            plain = model(read, Paged(store, rows, work))
            hidden, (seen,) = looked(
                model, read, Paged(store, rows, work), Watched(piece=len(beside), prompt=11, observe=wishes)
            )
        assert torch.equal(hidden, plain)
        for what, entries in seen.items():
            found[what] += entries
    for what in found:
        for mine, theirs in zip(found[what], want[what], strict=True):
            torch.testing.assert_close(_flat(mine), _flat(theirs), atol=2e-5, rtol=1e-4)


def _flat(found: Any) -> Tensor:
    """All numbers of a nested list, in order."""
    return (
        torch.cat([_flat(part) for part in found])
        if isinstance(found, list)
        else torch.tensor([float(found)])
    )
