from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.config import GatedDelta
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.model.positions import LongRope, Rope
from orrery.serve.contrastive import contrast, contrastive_tokens
from orrery.serve.sampling import Choice

PROMPT = [5, 40, 41, 42, 300]


def search(model: Decoder, ids: list[int], n: int, *, known: int = 320, **sampling) -> list[Choice]:
    request = GenerateRequest(ids=ids, max_tokens=n, sampling=Sampling(temperature=0, **sampling), logprobs=2)
    return list(contrastive_tokens(model, request, known=known))


@torch.inference_mode()
def by_definition(model: Decoder, ids: list[int], n: int, k: int, alpha: float) -> list[int]:
    """Every candidate read anew with the whole text before it."""
    ids = list(ids)
    for _ in range(n):
        hidden = model(torch.tensor(ids), Packed([len(ids)]))
        p = model.head(hidden[-1:])[0].softmax(-1)
        values = {}
        for token in p.sort(descending=True, stable=True).indices[:k].tolist():
            states = model(torch.tensor([*ids, token]), Packed([len(ids) + 1]))
            alike = F.cosine_similarity(states[-1:], states[:-1]).max()
            values[token] = float((1 - alpha) * p[token] - alpha * alike)
        ids.append(max(values, key=values.__getitem__))
    return ids[-n:]


def test_the_rule_by_hand() -> None:
    """Of 0.5, 0.3, 0.2: the likeliest says nothing new (cosine 0.9), the second little, the third all."""
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    ids = torch.tensor([1, 2, 0])
    alike = torch.tensor([[0.9, -1.0], [0.2, 0.4], [-0.5, -0.5]])
    value = contrast(logits, ids, alike, 0.6)
    assert value.tolist() == pytest.approx([0.2 - 0.54, 0.12 - 0.24, 0.08 + 0.3])
    assert contrast(logits, ids, alike, 0.1).argmax() == 0
    forbidden = torch.tensor([-math.inf, 0.0, 0.0])
    assert contrast(forbidden, ids, alike, 0.6)[2] == -math.inf


@pytest.mark.parametrize(("k", "alpha"), [(2, 0.3), (4, 0.6), (8, 0.9), (5, 1.0)])
def test_it_is_the_definition(lm, k, alpha) -> None:
    got = search(lm.model, PROMPT, 12, top_k=k, contrastive_alpha=alpha)
    assert [choice.id for choice in got] == by_definition(lm.model, PROMPT, 12, k, alpha)
    rows = lm.logits([*PROMPT, *(choice.id for choice in got)])[len(PROMPT) - 1 : -1].log_softmax(-1)
    for row, choice in zip(rows, got, strict=True):
        assert choice.logprob == pytest.approx(float(row[choice.id]), abs=1e-5)
        assert list(choice.top) == row.topk(2).indices.tolist()


def test_almost_no_alpha_is_greedy(lm) -> None:
    greedy = lm.generate(PROMPT, max_tokens=10, temperature=0, ignore_eos=True)
    got = search(lm.model, PROMPT, 10, top_k=4, contrastive_alpha=1e-7)
    assert tuple(choice.id for choice in got) == greedy.ids


def test_through_generate_it_repeats_itself_less(lm) -> None:
    how = dict(max_tokens=30, temperature=0, ignore_eos=True, logit_bias={77: 4.0})
    plain = lm.generate(PROMPT, **how)
    found = lm.generate(PROMPT, top_k=6, contrastive_alpha=0.8, **how)
    assert found == lm.generate(PROMPT, top_k=6, contrastive_alpha=0.8, **{**how, "temperature": 1.0})
    assert len(set(found.ids)) > len(set(plain.ids))
    pieces = "".join(lm.stream(PROMPT, top_k=6, contrastive_alpha=0.8, **how))
    assert pieces == found.text


def test_what_is_forbidden_is_not_taken(lm) -> None:
    first = search(lm.model, PROMPT, 1, top_k=3, contrastive_alpha=0.5)[0].id
    again = search(lm.model, PROMPT, 6, top_k=3, contrastive_alpha=0.5, logit_bias={first: -math.inf})
    assert first not in [choice.id for choice in again]
    only = {i: -math.inf for i in range(320) if i != 7}
    forced = search(lm.model, PROMPT, 3, top_k=3, contrastive_alpha=1.0, logit_bias=only)
    assert [choice.id for choice in forced] == [7, 7, 7]
    few = search(lm.model, [1], 8, known=4, top_k=50, contrastive_alpha=0.9)
    assert max(choice.id for choice in few) < 4


def test_it_reads_again_where_the_angles_change(make_model) -> None:
    scaling = LongRope(
        short_factor=(1.0,) * 4, long_factor=(1.0, 2.0, 4.0, 8.0), factor=4.0, original_max_positions=12
    )
    model = make_model(320, position=Rope(scaling=scaling))
    got = [choice.id for choice in search(model, PROMPT, 12, top_k=3, contrastive_alpha=0.6)]
    assert got == by_definition(model, PROMPT, 12, 3, 0.6)


def test_states_over_time_follow_the_candidate_that_is_taken(make_model) -> None:
    delta = GatedDelta(n_key_heads=2, n_value_heads=4, key_dim=8, value_dim=8, chunk=8)
    model = make_model(320, recurrent=delta, layer_pattern=("recurrent", "global"), attention_gate=True)
    got = [choice.id for choice in search(model, PROMPT, 8, top_k=3, contrastive_alpha=0.6)]
    assert got == by_definition(model, PROMPT, 8, 3, 0.6)


def test_the_context_is_a_limit(lm) -> None:
    """Each candidate is read, so there must be room for it."""
    how = dict(max_tokens=10, temperature=0, top_k=3, contrastive_alpha=0.6, ignore_eos=True)
    assert len(lm.generate([9] * 60, **how).ids) == 4
    with pytest.raises(OrreryError, match="fills the context of 64"):
        lm.generate([9] * 64, **how)
    with pytest.raises(OrreryError, match="contrastive_alpha"):
        lm.generate(PROMPT, num_beams=2, **how)
