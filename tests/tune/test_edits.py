"""Edits before tuning: new tokens leave old logits as they are; a longer context is one of the config alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model.folder import load_model, save_model
from orrery.model.packed import Packed
from orrery.model.positions import Alibi
from orrery.model.rope_scaling import Linear, Yarn, ntk_theta
from orrery.tune.longer_context import LongerContext, lengthen
from orrery.tune.vocabulary import NewTokens, extend

from .conftest import Small

TOKENS = torch.arange(3, 40)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.head(model(TOKENS, Packed([len(TOKENS)])))  # type: ignore[operator]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("init", ["mean", "gaussian"])
def test_old_logits_are_unchanged_and_new_ones_are_the_mean(small: Small, tied: bool, init: str) -> None:
    model = small.model(tied=tied).eval()
    before, old = logits(model), small.tokenizer.vocab_size
    new, tokenizer = extend(model, small.tokenizer, NewTokens(names=("<|a|>", "<|b|>"), init=init))  # type: ignore[arg-type]
    after = logits(new)
    assert after.shape[1] == new.cfg.vocab_size == tokenizer.vocab_size == old + 2
    assert torch.equal(after[:, :old], before)
    mean = before.mean(1, keepdim=True).expand(-1, 2)
    torch.testing.assert_close(after[:, old:], mean, rtol=0, atol=1e-6 if init == "mean" else 0.02)
    # what the old tokens lose together is what the new ones were given: at most about n / V
    kept = (before.logsumexp(1) - after.logsumexp(1)).exp()
    assert float((1 - kept).max()) <= 2.1 / (old + 2)
    assert tokenizer.special["<|a|>"] == old and (new.lm_head is None) == tied
    assert new.surgery[-1]["operation"] == "new tokens" and not model.surgery
    if init == "gaussian":
        assert not torch.equal(after[:, old], after[:, old + 1])


def test_new_rows_have_the_old_ones_covariance(small: Small) -> None:
    model = small.model(d_model=8, n_heads=2)
    with torch.no_grad():
        model.embed.weight.mul_(torch.arange(1.0, 9.0))  # other spreads along other directions
    old = model.embed.weight.detach().clone()
    names = tuple(f"<|n{i}|>" for i in range(3000))
    new, _ = extend(model, small.tokenizer, NewTokens(names=names, spread=1.0))
    drawn = new.embed.weight[len(old) :].detach()
    torch.testing.assert_close(drawn.mean(0), old.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(old.T, correction=0), rtol=0.2, atol=3e-3)


def test_padding_rows_are_used_first(small: Small) -> None:
    model = small.model(vocab_size=small.tokenizer.vocab_size + 10)
    new, tokenizer = extend(model, small.tokenizer, NewTokens(names=("<|a|>",)))
    assert (
        new.cfg.vocab_size == model.cfg.vocab_size and tokenizer.vocab_size == small.tokenizer.vocab_size + 1
    )
    assert torch.equal(new.embed.weight[tokenizer.vocab_size :], model.embed.weight[tokenizer.vocab_size :])
    with pytest.raises(OrreryError, match="are all in the vocabulary"):
        extend(new, tokenizer, NewTokens(names=("<|a|>",)))


def test_an_extended_model_is_saved_and_opened(small: Small, tmp_path: Path) -> None:
    new, _ = extend(small.model().eval(), small.tokenizer, NewTokens(names=("<|a|>",)))
    save_model(new, tmp_path / "m")
    assert torch.equal(logits(load_model(tmp_path / "m").eval()), logits(new))


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn"])
def test_a_longer_context_changes_the_config_alone(small: Small, tmp_path: Path, kind: str) -> None:
    model = small.model().eval()
    new = lengthen(model, LongerContext(max_positions=512, scaling=kind))  # type: ignore[arg-type]
    assert new.cfg.max_positions == 512
    assert all(
        torch.equal(a, b) for a, b in zip(new.state_dict().values(), model.state_dict().values(), strict=True)
    )
    position = new.cfg.position
    match kind:
        case "linear":
            assert position.scaling == Linear(factor=4.0)  # type: ignore[union-attr]
        case "yarn":
            assert position.scaling == Yarn(factor=4.0, original_max_positions=128)  # type: ignore[union-attr]
        case "ntk":
            assert math.isclose(position.theta, ntk_theta(10_000.0, 16, 4.0))  # type: ignore[union-attr]
    assert new.surgery[-1]["arguments"] == {"scaling": kind, "factor": 4.0, "from": 128, "to": 512}
    assert not torch.equal(logits(new), logits(model))
    save_model(new, tmp_path / kind)
    again = load_model(tmp_path / kind).eval()
    assert again.cfg.max_positions == 512 and torch.allclose(logits(again), logits(new), atol=1e-6)


def test_what_cannot_be_lengthened_is_refused(small: Small) -> None:
    model = small.model()
    with pytest.raises(OrreryError, match="looks at 128 tokens already"):
        lengthen(model, LongerContext(max_positions=128))
    with pytest.raises(OrreryError, match="scaled already"):
        lengthen(lengthen(model, LongerContext(max_positions=256)), LongerContext(max_positions=512))
    with pytest.raises(OrreryError, match="of the kind 'alibi'"):
        lengthen(small.model(position=Alibi()), LongerContext(max_positions=256))
