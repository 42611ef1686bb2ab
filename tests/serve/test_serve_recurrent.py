"""Text from models with recurrent layers, through the same LM object as any other's."""

from __future__ import annotations

from typing import Any

import pytest

from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.config import GatedDelta, Mamba2
from orrery.model.positions import NoPosition
from orrery.serve.lm import LM

SSM = Mamba2(n_heads=4, head_dim=8, state_dim=8, chunk=8)
DELTA = GatedDelta(n_key_heads=2, n_value_heads=4, key_dim=8, value_dim=8, chunk=8)
SHAPES: dict[str, dict[str, Any]] = {
    "mamba2": {
        "recurrent": SSM,
        "layer_pattern": ("recurrent",),
        "sublayers": "one",
        "position": NoPosition(),
    },
    "hybrid": {"recurrent": DELTA, "layer_pattern": ("recurrent", "global"), "attention_gate": True},
}
PROMPT = [5, 40, 41, 42, 300, 7, 8, 9, 10, 11, 12]


@pytest.fixture(params=SHAPES)
def recurrent_lm(request, tokenizer, make_model) -> LM:
    return LM(model=make_model(tokenizer.vocab_size, **SHAPES[request.param]), tokenizer=tokenizer)


def test_greedy_is_the_argmax_of_every_step(recurrent_lm: LM) -> None:
    ids = list(PROMPT)
    for _ in range(15):
        ids.append(int(recurrent_lm.logits(ids)[-1].argmax()))
    done = recurrent_lm.generate(PROMPT, max_tokens=15, temperature=0, ignore_eos=True)
    assert list(done.ids) == ids[len(PROMPT) :]


def test_samples_repeat_and_beams_share_states(recurrent_lm: LM) -> None:
    requests = [
        GenerateRequest(ids=PROMPT[:n], max_tokens=8, sampling=Sampling(seed=1), ignore_eos=True)
        for n in (2, 9)
    ]
    alone = [recurrent_lm.generate([request])[0] for request in requests]
    assert recurrent_lm.generate(requests) == alone
    best = recurrent_lm.generate([GenerateRequest(ids=PROMPT, max_tokens=6, num_beams=3, ignore_eos=True)])[0]
    rows = recurrent_lm.logits([*PROMPT, *best.ids])[len(PROMPT) - 1 : -1].log_softmax(-1)
    assert best.logprobs == pytest.approx(
        [rows[i, token].item() for i, token in enumerate(best.ids)], abs=1e-4
    )
