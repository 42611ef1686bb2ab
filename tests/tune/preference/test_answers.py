"""From records to ids to log-probabilities: what is learned, what lengths cost, and that sharing a prompt changes no number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.model.packed import Packed
from orrery.tune.preference import token_logprobs as module
from orrery.tune.preference.answers import Fitted, Item, fingerprint_of, fit, items_of, mismatched, rendered
from orrery.tune.preference.batches import batch_of_items
from orrery.tune.preference.config import PairLoaderConfig
from orrery.tune.preference.loader import PairLoader, Part
from orrery.tune.preference.pair_shapes import records_of
from orrery.tune.preference.reading import answer_logprobs, read_items
from orrery.tune.preference.token_logprobs import token_logprobs
from orrery.tune.rows import Row

from ..conftest import Small

ROWS: list[dict[str, Any]] = [
    {"prompt": "what is one plus two", "chosen": "it is three", "rejected": "less"},
    {"prompt": "what is one plus two", "chosen": "three", "rejected": "it is more or less the same"},
    {"prompt": "be short", "chosen": "call", "rejected": "say more"},
    {"messages": [{"role": "user", "content": "add"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "and b"}],
     "chosen": "a and b", "rejected": "b"},
]  # fmt: skip


def records(rows: list[dict[str, Any]] = ROWS) -> list[Any]:
    return [record for n, row in enumerate(rows) for record in records_of(Row(f"row {n}", row))]


def items(small: Small, rows: list[dict[str, Any]] = ROWS) -> list[Item]:
    return items_of(records(rows), small.renderer(), Fitted(context=127, policy="error"))


def test_only_the_compared_answers_are_learned(small: Small) -> None:
    for item, record in zip(items(small), records(), strict=True):
        assert list(item.head) == small.chat.prompt(record.messages)
        for tail, places, answer in zip(
            item.tails, item.learned, (record.chosen, record.rejected), strict=True
        ):
            assert places == tuple(range(len(tail)))
            assert (
                small.tokenizer.decode([*tail]).startswith(answer[0]["content"])
                and tail[-1] in small.chat.stop_ids
            )


def test_one_reading_of_a_prompt_gives_the_numbers_of_each_answer_alone(small: Small) -> None:
    model, all_items = small.model(), items(small)
    shared, apart = batch_of_items(all_items), batch_of_items(all_items, share=False)
    assert len(shared) < len(apart) and shared.forked and not apart.forked
    assert type(apart.context()) is Packed
    alone = []
    for item in all_items:
        for tail, places in zip(item.tails, item.learned, strict=True):
            ids = torch.tensor([*item.head, *tail])
            hidden = model(ids[:-1], Packed([len(ids) - 1]))
            logp = model.head(hidden).log_softmax(-1).gather(1, ids[1:, None]).squeeze(1)
            alone.append(logp[[len(item.head) + place - 1 for place in places]].sum())
    wanted = torch.stack(alone)
    for batch in (shared, apart):
        torch.testing.assert_close(answer_logprobs(model, batch), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat(read_items(model, all_items)), wanted, rtol=1e-5, atol=1e-5)

    def slopes(total: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(total, [p for p in model.parameters() if p.requires_grad]))

    weights = torch.linspace(-1, 1, len(wanted))
    for one, other in zip(
        slopes(weights @ answer_logprobs(model, shared)), slopes(weights @ wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [{}, {"logit_softcap": 5.0, "logit_scale": 0.5}, {"tied": True}])
def test_logits_at_once_in_chunks_or_of_a_frozen_head(
    small: Small, monkeypatch: pytest.MonkeyPatch, shape: dict[str, Any]
) -> None:
    model = small.model(**shape)
    hidden, wanted = torch.randn(11, 32, requires_grad=True), torch.arange(11)
    weights = torch.linspace(-1, 2, 11)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        found = token_logprobs(hidden, model, wanted)
        return found.detach(), torch.autograd.grad(weights @ found, hidden)[0]

    whole = model.head(hidden).log_softmax(-1).gather(1, wanted[:, None]).squeeze(1)
    plain = whole.detach(), torch.autograd.grad(weights @ whole, hidden)[0]
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 320 * 3)
    for kept, learns in ((1 << 30, True), (0, True), (0, False)):
        monkeypatch.setattr(module, "KEPT_BYTES", kept)
        model.requires_grad_(learns)
        torch.testing.assert_close(read(), plain)
        with torch.no_grad():
            torch.testing.assert_close(token_logprobs(hidden, model, wanted), plain[0])


def test_what_lengths_cost(small: Small) -> None:
    item = items(small)[1]
    over = item.longest - 1
    assert fit(item, Fitted(context=over, policy="error")) is item
    with pytest.raises(OrreryError, match=r"row 1: .* do not fit into loader.context"):
        fit(item, Fitted(context=over - 1, policy="error"))
    dropped = Fitted(context=over - 1, policy="drop")
    assert fit(item, dropped) is None and "left 1 out and cut 0" in dropped.sentence()
    left = fit(item, Fitted(context=over - 2, policy="left"))
    assert left is not None and left.head == item.head[2:] and left.tails == item.tails
    right = fit(item, Fitted(context=over - 2, policy="right"))
    assert right is not None and right.head == item.head and right.longest == item.longest - 2
    assert max(map(max, right.learned)) == len(item.head) * 0 + right.longest - len(item.head) - 1
    assert fit(item, Fitted(context=len(item.head) - 1, policy="right")) is None
    assert fit(item, Fitted(context=3, policy="left")) is None


def test_answers_that_belong_to_other_prompts(small: Small) -> None:
    rows = [
        {"prompt": f"what is {n}", "completion": word, "label": n % 2 == 0}
        for n, word in enumerate(["one", "two", "three", "more"])
    ]
    found = mismatched(items(small, rows), context=127, seed=0)
    own = {item.head: item.tails[0] for item in found}
    for item in found:
        assert item.other is not None and item.other.head == item.head
        assert item.other.tails[0] != own[item.head] and item.other.tails[0] in own.values()
    assert found == mismatched(items(small, rows), context=127, seed=0) and fingerprint_of(
        found
    ) != fingerprint_of(items(small, rows))
    with pytest.raises(OrreryError, match="two prompts"):
        mismatched([replace(item, head=(1,)) for item in found], context=127, seed=0)


def test_the_loader_is_a_function_of_the_step(small: Small) -> None:
    model, all_items = small.model(), items(small)
    part = Part(name="x", items=tuple(all_items), reference=tuple(read_items(model, all_items)))
    cfg = PairLoaderConfig(context=127, pairs=2, micro_batches=2)
    one, other = PairLoader([part], cfg, purpose="dpo"), PairLoader([part], cfg, purpose="dpo")
    assert one.fingerprint == other.fingerprint != PairLoader([part], cfg, purpose="ipo").fingerprint
    for step, micro in ((3, 1), (0, 0)):
        a, b = one.batch(step, micro), other.batch(step, micro)
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.wanted, b.wanted) and a.reference is not None
        torch.testing.assert_close(answer_logprobs(model, a), a.reference, rtol=1e-5, atol=1e-5)
    assert one.steps_per_epoch == 1.0 and one.drawn(3) == {"x": 12}
    heads = [b.wanted.tolist() for b in (one.batch(0, 0), one.batch(0, 1))]
    assert sum(map(len, heads)) == sum(
        len(p) for item in all_items for p in item.learned
    )  # an epoch has each once
    with pytest.raises(OrreryError, match="'y' has nothing to learn from"):
        PairLoader([Part(name="y", items=())], cfg)


def test_a_format_without_chat_reads_texts_one_after_the_other(small: Small) -> None:
    item = rendered(records()[0], small.renderer(chat=None))
    assert (
        small.tokenizer.decode([*item.head]).endswith("two") and item.tails[0][-1] == small.tokenizer.eos_id
    )
