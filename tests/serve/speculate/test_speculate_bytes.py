"""Under the coupled rule, no drafter changes a byte: good ones, bad ones, and on every sort of model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Grammar, Sampling
from orrery.model.drafters import EagleConfig, MedusaConfig, SemiAutoregressiveConfig, make_net
from orrery.model.gated_delta import GatedDelta
from orrery.model.mamba2 import Mamba2
from orrery.model.mla import Mla
from orrery.model.positions import Alibi, Learned, LongRope, NoPosition, Rope, T5Relative
from orrery.serve.lm import LM
from orrery.serve.speculate.draft_model import DraftModelDrafter
from orrery.serve.speculate.drafter import Draft, Drafter, DraftView
from orrery.serve.speculate.eagle import EagleDrafter
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.lookup import LookupDrafter
from orrery.serve.speculate.medusa import MedusaDrafter
from orrery.serve.speculate.own_mtp import MtpDrafter
from orrery.serve.speculate.semi_autoregressive import SemiAutoregressiveDrafter
from orrery.serve.speculate.statistics import AcceptanceStatistics

PROMPT = [5, 9, 33, 70, 5, 9, 33, 12, 5, 9]
KINDS = ["lookup", "chain", "tree", "medusa", "eagle", "eagle tree", "mtp", "semi", "oracle"]
SAMPLINGS = {
    "greedy": Sampling(temperature=0),
    "sampled": Sampling(temperature=0.7, seed=3),
    "filtered": Sampling(temperature=1.3, top_k=12, top_p=0.9, min_p=0.01, seed=4),
    "penalised": Sampling(
        temperature=0.9, repetition_penalty=1.2, frequency_penalty=0.3, presence_penalty=0.1, seed=5
    ),
    "dry": Sampling(
        temperature=0.8, dry_multiplier=0.8, xtc_probability=0.5, bad_words=((33, 12),), logit_bias={7: 2.0}
    ),
}


class Oracle:
    """Drafts trees around what is known to come; in each tree the truth is a later branch."""

    reads_hidden = False

    def __init__(self, come: Sequence[int], vocab: int) -> None:
        self.come, self.vocab = list(come), vocab

    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        drafts = []
        for view in views:
            made = len(view.ids) - len(PROMPT)
            truth = self.come[made : made + min(view.room, limit // 2)]
            ids = [i for t in truth for i in ((t + 1) % self.vocab, t)]
            parents = [2 * depth - 1 if depth else -1 for depth in range(len(truth)) for _ in range(2)]
            drafts.append(Draft(tuple(ids), tuple(parents)))
        return drafts

    def accepted(self, ticket: int, ids: Sequence[int], hidden: torch.Tensor | None) -> None:
        pass

    def forget(self, ticket: int) -> None:
        pass


def drafter(kind: str, lm: LM, small: LM, come: Sequence[int] = ()) -> Drafter:
    def net(cfg):
        made = make_net(cfg, lm.model)
        made.reset_parameters(1)
        return made.eval()

    match kind:
        case "lookup":
            return LookupDrafter()
        case "chain":
            return DraftModelDrafter(small, lm)
        case "tree":
            return DraftModelDrafter(small, lm, branches=(3, 2, 1))
        case "medusa":
            return MedusaDrafter(net(MedusaConfig()))
        case "eagle":
            return EagleDrafter(net(EagleConfig()))
        case "eagle tree":
            return EagleDrafter(net(EagleConfig()), branches=(2, 2, 1, 1))
        case "mtp":
            return MtpDrafter(lm.model)
        case "semi":
            return SemiAutoregressiveDrafter(net(SemiAutoregressiveConfig()))
    return Oracle(come, lm.tokenizer.vocab_size)


@pytest.fixture(scope="module")
def models(tokenizer, make_model) -> tuple[LM, LM]:
    """A model with MTP modules, and a smaller one that is close to it: its own first layer."""
    model = make_model(tokenizer.vocab_size, n_layers=3, mtp_heads=2, max_positions=96)
    small = make_model(tokenizer.vocab_size, n_layers=1, max_positions=96)
    mine = model.state_dict()
    small.load_state_dict({name: mine[name] for name in small.state_dict()})
    return LM(model=model, tokenizer=tokenizer), LM(model=small, tokenizer=tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLINGS)
def test_bytes_are_those_of_no_speculation(models, kind: str, name: str) -> None:
    lm, small = models
    request = GenerateRequest(
        ids=PROMPT, max_tokens=28, sampling=SAMPLINGS[name], ignore_eos=True, logprobs=2
    )
    (plain,) = lm.generate([request])
    statistics = AcceptanceStatistics()
    done = speculative_generate(lm, request, drafter(kind, lm, small, plain.ids), statistics=statistics)
    assert (done.ids, done.text, done.finish_reason) == (plain.ids, plain.text, plain.finish_reason)
    assert done.logprobs == pytest.approx(plain.logprobs, abs=1e-4)
    assert [list(top) for top in done.top_logprobs] == [list(top) for top in plain.top_logprobs]
    assert done.accepted == statistics.kept <= done.drafted == statistics.nodes
    assert statistics.passes + statistics.kept >= 28
    if kind == "oracle":
        assert set(statistics.by_position()) == {1.0} and statistics.passes <= 7


def test_drafts_of_a_close_model_are_kept(models) -> None:
    lm, small = models
    counts = {}
    for name in ("greedy", "sampled"):
        request = GenerateRequest(ids=PROMPT, max_tokens=60, sampling=SAMPLINGS[name], ignore_eos=True)
        for kind in ("chain", "tree"):
            speculative_generate(
                lm,
                request,
                drafter(kind, lm, small),
                statistics=counts.setdefault((name, kind), AcceptanceStatistics()),
            )
    assert all(c.kept > 0 for c in counts.values()), {k: c.kept for k, c in counts.items()}


@pytest.mark.parametrize("rule", ["coupled", "rejection"])
def test_a_model_that_drafts_for_itself_is_always_right(models, rule) -> None:
    lm, _ = models
    for sampling in (SAMPLINGS["greedy"], SAMPLINGS["filtered"]):
        request = GenerateRequest(ids=PROMPT, max_tokens=41, sampling=sampling, ignore_eos=True)
        statistics = AcceptanceStatistics()
        speculative_generate(
            lm, request, DraftModelDrafter(lm, lm), rule=rule, tokens=4, statistics=statistics
        )
        # The prompt's pass makes one token, and eight passes make five each.
        assert statistics.passes == 9 and statistics.kept == statistics.nodes == 32


FACTORS = {"short_factor": (1.0, 1.1, 1.2, 1.3), "long_factor": (1.0, 2.0, 4.0, 8.0)}
SORTS = {
    "window": {"window": 5, "layer_pattern": ("local", "global")},
    "alibi": {"position": Alibi()},
    "t5": {"position": T5Relative()},
    "learned": {"position": Learned(max_positions=64)},
    "sinks": {"sinks": True, "attention_softcap": 20.0},
    "mla": {
        "n_kv_heads": None,
        "attention": Mla(kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8),
    },
    "long rope": {"position": Rope(scaling=LongRope(**FACTORS, factor=4.0, original_max_positions=24))},
    "mamba2": {
        "recurrent": Mamba2(n_heads=4, head_dim=8, state_dim=8, chunk=8),
        "layer_pattern": ("recurrent",),
        "sublayers": "one",
        "position": NoPosition(),
    },
    "hybrid": {
        "recurrent": GatedDelta(n_key_heads=2, n_value_heads=4, key_dim=8, value_dim=8, chunk=8),
        "layer_pattern": ("recurrent", "global"),
    },
}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("kind", ["oracle", "lookup", "medusa"])
def test_every_sort_of_model(sort: str, kind: str, tokenizer, make_model) -> None:
    lm = LM(model=make_model(tokenizer.vocab_size, **SORTS[sort]), tokenizer=tokenizer)
    for name in ("greedy", "filtered"):
        request = GenerateRequest(ids=PROMPT, max_tokens=80, sampling=SAMPLINGS[name], ignore_eos=True)
        (plain,) = lm.generate([request])
        assert len(plain.ids) == 55  # the context is full
        statistics = AcceptanceStatistics()
        done = speculative_generate(lm, request, drafter(kind, lm, lm, plain.ids), statistics=statistics)
        assert done.ids == plain.ids
        if kind == "oracle" and sort not in ("mamba2", "hybrid"):  # these have no room for a second branch
            assert statistics.mean_accepted_length > 3.5


def test_a_recurrent_model_keeps_chains(tokenizer, make_model) -> None:
    lm = LM(model=make_model(tokenizer.vocab_size, **SORTS["hybrid"]), tokenizer=tokenizer)
    request = GenerateRequest(ids=PROMPT, max_tokens=30, sampling=Sampling(temperature=0), ignore_eos=True)
    (plain,) = lm.generate([request])

    class HalfRight(Oracle):
        """Chains that are right up to every third token."""

        def propose(self, views, limit):
            (view,) = views
            made = len(view.ids) - len(PROMPT)
            truth = self.come[made : made + min(view.room, 4)]
            return [Draft(tuple(t if (made + i) % 3 else (t + 1) % self.vocab for i, t in enumerate(truth)))]

    statistics = AcceptanceStatistics()
    done = speculative_generate(
        lm, request, HalfRight(plain.ids, lm.tokenizer.vocab_size), statistics=statistics
    )
    assert done.ids == plain.ids
    assert 0 < statistics.kept < statistics.nodes


def test_stop_ids_strings_and_grammars_end_the_text_at_the_same_place(models) -> None:
    lm, small = models
    drawn = Sampling(temperature=0.8, seed=6)
    (free,) = lm.generate([GenerateRequest(ids=PROMPT, max_tokens=40, sampling=drawn, ignore_eos=True)])
    asked = [
        GenerateRequest(ids=PROMPT, max_tokens=40, sampling=drawn, stop_ids=(free.ids[17],)),
        GenerateRequest(ids=PROMPT, max_tokens=40, sampling=drawn, stop=(free.text[19:22],)),
        GenerateRequest(
            ids=PROMPT, max_tokens=40, sampling=Sampling(seed=2), grammar=Grammar(kind="regex", source="(the cat ){3,5}on")
        ),
        GenerateRequest(
            ids=PROMPT, max_tokens=40, sampling=Sampling(seed=2), grammar=Grammar(kind="choice", source='["read", "mat"]')
        ),
    ]  # fmt: skip
    for request in asked:
        (plain,) = lm.generate([request])
        assert plain.finish_reason == "stop"
        for kind in ("oracle", "chain", "lookup", "eagle tree", "mtp"):
            done = speculative_generate(lm, request, drafter(kind, lm, small, plain.ids))
            assert (done.ids, done.text, done.finish_reason) == (plain.ids, plain.text, "stop"), kind


def test_a_short_answer_leaves_no_room(models) -> None:
    lm, small = models
    for n in (1, 2, 3):
        request = GenerateRequest(ids=PROMPT, max_tokens=n, sampling=Sampling(seed=1), ignore_eos=True)
        (plain,) = lm.generate([request])
        for kind in KINDS:
            assert speculative_generate(lm, request, drafter(kind, lm, small, plain.ids)).ids == plain.ids


def test_searches_over_several_tokens_are_refused(models) -> None:
    lm, _ = models
    for settings in ({"num_beams": 2}, {"sampling": Sampling(temperature=0, top_k=4, contrastive_alpha=0.6)}):
        with pytest.raises(OrreryError, match="cannot be drafted for"):
            speculative_generate(lm, GenerateRequest(ids=PROMPT, **settings), LookupDrafter())
