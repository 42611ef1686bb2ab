"""Real preferences are read, packed and learned from; and practice for a learned reward raises what people wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orrery.glossary.exhibits._stepping import judge_from, pairs_by_capitals
from orrery.glossary.exhibits.reward_models import practised_for
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.text.chat import ChatFormat
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.tune.examples import Renderer
from orrery.tune.preference.pairs import PreferenceSet, divided, read_pairs
from orrery.tune.preference.records import Pair
from orrery.tune.reward.batches import batch_of_items
from orrery.tune.reward.config import RewardConfig, RewardLoaderConfig
from orrery.tune.reward.items import fitted, pair_item
from orrery.tune.reward.trainer import RewardMaterial, train_reward

from .start import loop

SETS = ("pref_dpo_demo/pairs.jsonl", "oasst_trees/preference_pairs.jsonl")


def planted(pair: Pair, n: int) -> Pair:
    """The same question with the first words of its two answers, in any order, of which the better one says thanks."""
    words = [" ".join(str(answer[0]["content"]).split()[:12]) for answer in (pair.chosen, pair.rejected)]
    first, second = words if n % 2 else words[::-1]
    asked = ({"role": "user", "content": " ".join(str(pair.messages[-1]["content"]).split()[:20])},)
    better, worse = f"{first} Thank you.", f"{second} Never mind."
    return replace(
        pair, messages=asked, chosen=({"role": "assistant", "content": better},), rejected=({"role": "assistant", "content": worse},)
    )  # fmt: skip


def test_a_planted_preference_in_real_conversations(shared_data: Path, tmp_path: Path) -> None:
    real = [pair for path in SETS for pair in read_pairs(PreferenceSet(paths=(path,)), shared_data)]
    assert len(real) > 200
    text = [str(pair.messages[-1]["content"])[:400] for pair in real[:80]] + ["Thank you. Never mind."] * 4
    tokenizer = train_tokenizer(text, TokenizerConfig(vocab_size=512))
    renderer = Renderer(tokenizer=tokenizer, chat=ChatFormat(tokenizer), learn="last")
    cfg, loader = RewardConfig(), RewardLoaderConfig(context=192, rows=16)

    whole = [pair_item(pair, renderer, cfg) for pair in real]
    kept, lost = fitted(whole, replace(loader, context=1024))
    assert len(kept) + lost == len(real) and 0 < lost < len(real)
    shared, apart = (batch_of_items(kept[:4], share=share) for share in (True, False))
    assert len(shared) < len(apart)

    sides = divided([planted(pair, n) for n, pair in enumerate(real)], heldout=0.3)
    items = [
        fitted([pair_item(pair, renderer, cfg) for pair in side], loader)[0]
        for side in (sides.train, sides.heldout)
    ]
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=64), "max_positions": 192}
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape), seed=0)  # type: ignore[arg-type]
    result = train_reward(
        loop(12), model=model, material=RewardMaterial(sets=[items[0]], heldout=items[1]), level="pair", out=tmp_path, cfg=cfg, loader=loader,
    )  # fmt: skip
    assert result.after is not None and result.after.accuracy.low > 0.6


@pytest.mark.slow
def test_lessons_a_judge_and_practice_raise_what_was_wanted() -> None:
    """The chain of RLHF: a model taught right and wrong alike, a reward model from pairs of its answers, PPO with a price on KL."""
    judge, learned = judge_from(pairs_by_capitals(heldout=False), pairs_by_capitals(heldout=True), "pair")
    assert learned.after is not None and learned.after.accuracy.low > 0.8
    lines = practised_for(judge, rounds=16)
    begin, end = (sum(line["true"] for line in part) / 4 for part in (lines[:4], lines[-4:]))
    assert end > begin + 0.15
    assert sum(line["reward"] for line in lines[-4:]) > sum(line["reward"] for line in lines[:4])
    assert all(line["first_ratio"] == 0 for line in lines) and lines[-1]["kl_start"] > 0
    dear = practised_for(judge, rounds=16, beta=5.0)
    assert dear[-1]["kl_start"] < lines[-1]["kl_start"]
