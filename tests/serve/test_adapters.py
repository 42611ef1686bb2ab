"""Named adapters beside a served model: several in one batch, loaded from peft's folders, told apart by fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest
from orrery.model import Cached, Decoder, KVCache, Packed
from orrery.model.adapters import Adapter, Lora, merge_adapter, new_adapter
from orrery.model.adapters.folder import save_adapter
from orrery.serve.adapters import Adapters, named_folders
from orrery.serve.extras import Extras
from tests.model.shapes import tiny

Make = Callable[..., Decoder]


def trained(model: Decoder, seed: int) -> Adapter:
    """An adapter as it would be after training: no part of it is zero."""
    adapter = new_adapter(model, Lora(rank=4, alpha=8.0, targets=("q_proj", "up_proj", "o_proj")), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for low in adapter.parts.values():
            low.b.normal_(std=0.3, generator=generator)
    return adapter


def text(n: int, seed: int) -> torch.Tensor:
    return torch.randint(5, 90, (n,), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_a_batch_of_different_adapters_equals_each_merged_into_a_model_of_its_own(
    make_model: Make, tmp_path: Path
) -> None:
    model, merged = make_model(90), {name: make_model(90) for name in ("a", "b", None)}
    adapters = Adapters.of(model)
    assert Adapters.of(model) is adapters
    for seed, name in enumerate("ab"):
        adapter = trained(model, seed)
        save_adapter(adapter, model, tmp_path / name)
        adapters.load(name, tmp_path / name)
        merge_adapter(merged[name], adapter)
    names, lengths = ["a", None, "b", "a"], [6, 3, 8, 1]
    prompts = [text(n, i) for i, n in enumerate(lengths)]
    ctx = Packed(lengths)
    ctx.adapters = adapters.of_tokens(names, lengths)
    batch = model(torch.cat(prompts), ctx).split(lengths)
    for name, prompt, hidden in zip(names, prompts, batch, strict=True):
        torch.testing.assert_close(merged[name](prompt, Packed([len(prompt)])), hidden, atol=2e-4, rtol=1e-4)

    cache = KVCache(
        model, rows=4, capacity=12
    )  # all prompts at once, then three tokens of each in one pass a token
    pass_one = Cached(cache, [(row, 0, n) for row, n in enumerate(lengths)])
    pass_one.adapters = ctx.adapters
    torch.testing.assert_close(model(torch.cat(prompts), pass_one), torch.cat(batch), atol=2e-5, rtol=1e-4)
    for step in range(3):
        ctx = Cached(cache, [(row, n + step, 1) for row, n in enumerate(lengths)])
        ctx.adapters = adapters.of_tokens(names, ctx.lengths)
        tokens = torch.tensor([7 + step, 8, 9, 10 + step])
        hidden = model(tokens, ctx)
        prompts = [torch.cat((prompt, token[None])) for prompt, token in zip(prompts, tokens, strict=True)]
        for name, prompt, row in zip(names, prompts, hidden, strict=True):
            whole = merged[name](prompt, Packed([len(prompt)]))
            torch.testing.assert_close(whole[-1], row, atol=2e-4, rtol=1e-4)


def test_names_come_and_go(make_model: Make) -> None:
    model = make_model(90)
    adapters = Adapters.of(model)
    tokens = text(5, 0)
    plain = model(tokens, Packed([5]))
    adapters.add("first", trained(model, 1))
    adapters.add("second", trained(model, 2))
    assert adapters.names == ("first", "second")
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".beside." in name)
    prints = {adapters.fingerprint(name) for name in ("first", "second", None)}
    assert len(prints) == 3 and b"" in prints
    with pytest.raises(OrreryError, match="loaded already"):
        adapters.add("first", trained(model, 3))
    with pytest.raises(OrreryError, match="loaded are first, second"):
        adapters.check("frist")
    for bad in ("", "a\nb", " a", "x" * 200):
        with pytest.raises(OrreryError, match="no name"):
            adapters.add(bad, trained(model, 3))
    before = adapters.fingerprint("first")
    adapters.remove("first")
    with pytest.raises(OrreryError, match="no adapter 'first'"):
        adapters.of_tokens(["first"], [3])
    adapters.add("first", trained(model, 1))
    assert adapters.fingerprint("first") == before
    adapters.remove("first")
    adapters.add("first", trained(model, 4))
    assert adapters.fingerprint("first") != before
    assert adapters.of_tokens([None, None], [3, 4]) is None
    for name in adapters.names:
        adapters.remove(name)
    assert torch.equal(model(tokens, Packed([5])), plain) and model.surgery == []


def test_a_folder_that_does_not_fit_leaves_the_model_alone(make_model: Make, tmp_path: Path) -> None:
    model, wider = make_model(90), make_model(90, d_model=48)
    save_adapter(trained(wider, 0), wider, tmp_path / "wide")
    with pytest.raises(OrreryError, match="another model's"):
        Adapters.of(model).load("wide", tmp_path / "wide")
    assert Adapters.of(model).names == () and model.surgery == []


def test_what_serving_folds_into_the_queries_is_refused() -> None:
    model = tiny("latent")
    adapter = new_adapter(model, Lora(rank=2, targets=("kv_b_proj",)))
    with pytest.raises(OrreryError, match="folds into the queries"):
        Adapters.of(model).add("a", adapter)
    assert model.surgery == []


def test_settings_of_a_command_line() -> None:
    assert named_folders(["a=x/y", "b=c=d"]) == {"a": Path("x/y"), "b": Path("c=d")}
    for wrong in (["a"], ["=x"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(OrreryError, match="NAME=PATH"):
            named_folders(wrong)


@torch.inference_mode()
def test_a_request_of_its_own_goes_through_its_adapter(make_model: Make) -> None:
    model, merged = make_model(90), make_model(90)
    adapter = trained(model, 1)
    Adapters.of(model).add("a", adapter)
    merge_adapter(merged, adapter)
    prompt = text(6, 1)
    ctx = Packed([6])
    with Extras(model, GenerateRequest(ids=prompt.tolist(), adapter="a")).around(ctx):
        hidden = model(prompt, ctx)
    torch.testing.assert_close(hidden, merged(prompt, Packed([6])), atol=2e-4, rtol=1e-4)
    with pytest.raises(OrreryError, match="no adapter 'b'"):
        Extras(model, GenerateRequest(ids=[1], adapter="b"))
