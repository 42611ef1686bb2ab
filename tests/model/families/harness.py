"""Tiny seeded models made by transformers, opened here: the checks every family must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from orrery.model.cache import Cached, KVCache
from orrery.model.folder import load_model, save_model
from orrery.model.packed import Packed

LENGTHS = (1, 7, 33)
TOLERANCE = 1e-4
NEW = 64


def make(case: dict[str, Any], folder: Path) -> Any:
    """The transformers model of a case, with weights that matter everywhere (norms and biases too), saved in `folder`.

    A case: `config` (name of the config class), `model` (name of the model class), `settings` (its arguments); `angles`
    is "by length" where rope depends on how long a sequence is.
    """
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, case["config"])(**{"vocab_size": 128, **case["settings"]})
    model = getattr(transformers, case["model"])(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((0.2 if parameter.ndim == 1 else 0.05) * noise)
    model.save_pretrained(folder)
    return model


def tokens(length: int, seed: int = 0) -> Tensor:
    """(length,) seeded ids."""
    return torch.randint(3, 128, (length,), generator=torch.Generator().manual_seed(100 * seed + length))


def check_logits(theirs: Any, folder: Path, *, by_length: bool = False) -> None:
    """Each length alone, all of them packed, and in chunks through the cache."""
    ours = load_model(folder)
    with torch.no_grad():
        expected = [theirs(tokens(n)[None]).logits[0] for n in LENGTHS]
        in_chunks = [_their_chunks(theirs, tokens(n)) for n in LENGTHS] if by_length else expected
        alone = [ours.head(ours(tokens(n), Packed([n]))) for n in LENGTHS]
        packed = ours.head(ours(torch.cat([tokens(n) for n in LENGTHS]), Packed(LENGTHS))).split(LENGTHS)
        cached = [_chunked(ours, tokens(n)) for n in LENGTHS]
    for want, got in zip((*expected, *expected, *in_chunks), (*alone, *packed, *cached), strict=True):
        torch.testing.assert_close(got[:, : want.shape[1]], want, atol=TOLERANCE, rtol=1e-4)


def check_greedy(theirs: Any, folder: Path) -> None:
    """64 tokens, each the most probable, equal to theirs."""
    ours, prompt = load_model(folder), tokens(9, seed=3)
    want = theirs.generate(
        prompt[None], max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, num_beams=1, eos_token_id=None,
        pad_token_id=0, use_cache=True,
    )[0, len(prompt) :]  # fmt: skip
    cache, ids, start = KVCache(ours, rows=1, capacity=len(prompt) + NEW), prompt, 0
    with torch.no_grad():
        for _ in range(NEW):
            logits = ours.head(ours(ids[start:], Cached(cache, [(0, start, len(ids) - start)]))[-1:])
            start = len(ids) if cache.serves(len(ids), len(ids) + 1) else 0
            ids = torch.cat((ids, logits.argmax(-1)))
    assert ids[len(prompt) :].tolist() == want.tolist()


def check_written_back(theirs: Any, folder: Path, again: Path) -> None:
    """Every tensor comes back under its name, bit for bit, and transformers opens the folder with equal logits."""
    import transformers

    model = load_model(folder)
    save_model(model, again)
    before, after = stored(folder), stored(again)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name
    reopened = getattr(transformers, type(theirs).__name__).from_pretrained(again).eval()
    assert reopened.config.model_type == theirs.config.model_type
    with torch.no_grad():
        torch.testing.assert_close(
            reopened(tokens(7)[None]).logits, theirs(tokens(7)[None]).logits, atol=1e-5, rtol=1e-5
        )


def stored(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by their names in its files."""
    return {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}


def _sizes(length: int) -> list[int]:
    """A first chunk, a middle one, then token by token."""
    sizes = [min(5, length), *([4] if length > 9 else [])]
    return sizes + [1] * (length - sum(sizes))


def _chunked(model: Any, ids: Tensor) -> Tensor:
    """Logits by way of the cache, which is filled anew where it no longer serves."""
    cache, out, start = KVCache(model, rows=1, capacity=len(ids)), [], 0
    for n in _sizes(len(ids)):
        first = start if cache.serves(start, start + n) else 0
        work = [(0, first, start + n - first)]
        out.append(model.head(model(ids[first : start + n], Cached(cache, work)))[-n:])
        start += n
    return torch.cat(out)


def _their_chunks(theirs: Any, ids: Tensor) -> Tensor:
    """The same with transformers' cache, dropped where LongRoPE changes its angles (as its Phi-3 generates)."""
    rope = theirs.config.rope_parameters
    limit = rope["original_max_position_embeddings"] if rope["rope_type"] == "longrope" else None
    cache, out, start = None, [], 0
    for n in _sizes(len(ids)):
        again = limit is not None and start <= limit < start + n
        step = theirs(
            ids[None, 0 if again else start : start + n],
            past_key_values=None if again else cache,
            use_cache=True,
        )
        cache, start = step.past_key_values, start + n
        out.append(step.logits[0, -n:])
    return torch.cat(out)
