"""Every family of encoders against transformers: hidden states and logits, alone and packed, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from orrery.kit.errors import OrreryError
from orrery.model.encoder import Encoder
from orrery.model.folder import load_config, load_model, open_model, save_model
from orrery.model.packed import Packed
from tests.model.families.harness import LENGTHS, TOLERANCE, make, stored, tokens

pytest.importorskip("transformers", reason="the reference models are transformers'")

SMALL: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 80,
    "max_position_embeddings": 64,
}  # fmt: skip
MODERN: dict[str, Any] = {
    **SMALL, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2,
    "local_attention": 8,
}  # fmt: skip
DISTIL: dict[str, Any] = {
    "dim": 48, "n_layers": 4, "n_heads": 4, "hidden_dim": 80, "max_position_embeddings": 64,
}  # fmt: skip


def case(name: str, head: str, settings: dict[str, Any] = SMALL, **more: Any) -> dict[str, Any]:
    return {"config": f"{name}Config", "model": f"{name}{head}", "settings": {**settings, **more}}


CASES: dict[str, dict[str, Any]] = {
    "bert": case("Bert", "Model"),
    "bert-masked-lm": case("Bert", "ForMaskedLM", hidden_act="gelu_new", type_vocab_size=3),
    "bert-pre-training": case("Bert", "ForPreTraining", layer_norm_eps=1e-5),
    "roberta": case("Roberta", "Model", type_vocab_size=1),
    "roberta-masked-lm": case("Roberta", "ForMaskedLM", type_vocab_size=1),
    "xlm-roberta-masked-lm": case("XLMRoberta", "ForMaskedLM", type_vocab_size=1),
    "distilbert": case("DistilBert", "Model", DISTIL),
    "distilbert-masked-lm": case("DistilBert", "ForMaskedLM", DISTIL),
    "modernbert": case("ModernBert", "Model", MODERN),
    "modernbert-masked-lm": case("ModernBert", "ForMaskedLM", MODERN),
    "modernbert-biases": case(
        "ModernBert", "ForMaskedLM", MODERN, norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True,
        classifier_activation="silu", local_attention=12,
    ),
}  # fmt: skip

CHECKS = ("hidden", "heads", "written-back")
PASSED: dict[str, list[str]] = {name: [] for name in CASES}


@pytest.fixture(scope="module", params=CASES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, make(CASES[request.param], folder), folder


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Prints family x check (pytest -s)."""
    yield
    print(f"\n{'family':<24}" + "".join(f"{check:<14}" for check in CHECKS))
    for name, passed in PASSED.items():
        print(f"{name:<24}" + "".join(f"{'equal' if check in passed else '-':<14}" for check in CHECKS))


@pytest.mark.parametrize("check", CHECKS)
def test_equal_to_transformers(family: tuple[str, Any, Path], check: str, tmp_path: Path) -> None:
    name, theirs, folder = family
    match check:
        case "hidden":
            check_hidden(theirs, folder)
        case "heads":
            check_heads(theirs, folder)
        case "written-back":
            check_written_back(theirs, folder, tmp_path / "again")
    PASSED[name].append(check)


def hidden_states(model: Encoder) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Of each length alone, and of all of them packed."""
    with torch.no_grad():
        alone = [model(tokens(n), Packed([n], causal=False)) for n in LENGTHS]
        packed = model(torch.cat([tokens(n) for n in LENGTHS]), Packed(LENGTHS, causal=False))
    return alone, packed


def check_hidden(theirs: Any, folder: Path) -> None:
    alone, packed = hidden_states(opened(folder))
    body = getattr(theirs, theirs.base_model_prefix, theirs)
    for n, one, together in zip(LENGTHS, alone, packed.split(LENGTHS), strict=True):
        with torch.no_grad():
            want = body(tokens(n)[None]).last_hidden_state[0]
        torch.testing.assert_close(one, want, atol=TOLERANCE, rtol=1e-4)
        torch.testing.assert_close(together, want, atol=TOLERANCE, rtol=1e-4)


def check_heads(theirs: Any, folder: Path) -> None:
    """Logits of the masked-LM head, what the pooler gives, and the next-sentence logits: those that there are."""
    model = opened(folder)
    _, packed = hidden_states(model)
    with torch.no_grad():
        logits = model.head(packed).split(LENGTHS) if model.lm_head else None
        pooled = model.pooled(packed, LENGTHS) if model.pooler else None
        for i, n in enumerate(LENGTHS):
            want = theirs(tokens(n)[None])
            given = [want[k][0] for k in ("logits", "prediction_logits") if k in want]
            assert bool(given) == (logits is not None)
            assert ("pooler_output" in want) <= (pooled is not None)
            if logits is not None:
                torch.testing.assert_close(logits[i], given[0], atol=TOLERANCE, rtol=1e-4)
            if pooled is not None and "pooler_output" in want:
                torch.testing.assert_close(pooled[i], want.pooler_output[0], atol=TOLERANCE, rtol=1e-4)
            if pooled is not None and model.next_sentence is not None:
                follows = model.next_sentence(pooled[i])
                torch.testing.assert_close(
                    follows, want.seq_relationship_logits[0], atol=TOLERANCE, rtol=1e-4
                )


def check_written_back(theirs: Any, folder: Path, again: Path) -> None:
    """Every tensor comes back under its name, bit for bit, and transformers opens the folder with equal states."""
    import transformers

    save_model(opened(folder), again)
    before, after = stored(folder), stored(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    auto = transformers.AutoConfig.from_pretrained(again)
    assert auto.architectures == [type(theirs).__name__]
    reopened = type(theirs).from_pretrained(again).eval()
    with torch.no_grad():
        for got, want in zip(reopened(tokens(7)[None])[:1], theirs(tokens(7)[None])[:1], strict=True):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def opened(folder: Path) -> Encoder:
    model = open_model(folder)
    assert isinstance(model, Encoder)
    return model


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("bert-pair")
    return make(CASES["bert-pre-training"], folder), folder


def test_token_types_tell_two_texts_apart(bert: tuple[Any, Path]) -> None:
    theirs, folder = bert
    types = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    with torch.no_grad():
        want = theirs.bert(tokens(7)[None], token_type_ids=types[None]).last_hidden_state[0]
        got = opened(folder)(tokens(7), Packed([7], causal=False), types)
    torch.testing.assert_close(got, want, atol=TOLERANCE, rtol=1e-4)


def test_old_spellings_open_as_the_same_model(bert: tuple[Any, Path], tmp_path: Path) -> None:
    """gamma and beta, position ids, and the tied output layer stored a second time."""
    _, folder = bert
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(64)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"].clone()
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(old, tmp_path / "model.safetensors")
    one, other = opened(folder).state_dict(), opened(tmp_path).state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_head_that_is_not_tied_keeps_its_own_weights(tmp_path: Path) -> None:
    theirs = make(case("Bert", "ForMaskedLM", tie_word_embeddings=False), tmp_path)
    model = opened(tmp_path)
    assert not model.cfg.tied
    with torch.no_grad():
        got = model.head(model(tokens(7), Packed([7], causal=False)))
        torch.testing.assert_close(got, theirs(tokens(7)[None]).logits[0], atol=TOLERANCE, rtol=1e-4)


def test_tensors_that_do_not_belong_are_named(bert: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = bert
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.weight"] = torch.zeros(2, 48)
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(OrreryError, match=r"encoder\.layer\.1\.output\.dense\.bias.*classifier\.weight"):
        open_model(tmp_path)


def test_an_encoder_no_family_expresses_is_kept_under_our_own_names(
    bert: tuple[Any, Path], tmp_path: Path
) -> None:
    _, folder = bert
    cfg = load_config(folder)
    model = Encoder(replace(cfg, stack=replace(cfg.stack, placement="pre", norm="rmsnorm")), seed=3)
    save_model(model, tmp_path / "ours")
    again = opened(tmp_path / "ours")
    assert again.cfg == model.cfg
    with torch.no_grad():
        torch.testing.assert_close(
            again(tokens(7), Packed([7], causal=False)),
            model(tokens(7), Packed([7], causal=False)),
            atol=0,
            rtol=0,
        )


def test_an_encoder_is_not_a_decoder(bert: tuple[Any, Path]) -> None:
    _, folder = bert
    with pytest.raises(OrreryError, match="Encoder"):
        load_model(folder)
    with pytest.raises(OrreryError, match="causal=False"):
        opened(folder)(tokens(3), Packed([3]))
    with pytest.raises(OrreryError, match="64 positions"):
        opened(folder)(tokens(65), Packed([65], causal=False))
