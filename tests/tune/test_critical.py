"""Critical positions: scores by hand, and edits there alone that teach a frozen model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.model import Packed
from orrery.model.adapters import AdapterSlots, Reft, new_adapter
from orrery.model.quantised import freeze_quantised
from orrery.tune.critical import _of_pattern, continue_edited, critical_positions, flow_scores
from tests.model.shapes import ids, tiny


def test_scores_by_hand() -> None:
    """Of three tokens: the second gives 0.25 of itself to the first, the third 0.5 and 0.3. The first has two readers, the second one."""
    pattern = torch.tensor([[[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.3, 0.2]]])
    torch.testing.assert_close(_of_pattern(pattern, "attention"), torch.tensor([0.375, 0.3, 0.0]))
    torch.testing.assert_close(_of_pattern(pattern, "own"), torch.tensor([1.0, 0.75, 0.2]))
    scores = torch.tensor([0.1, 0.4, 0.4, 0.2, 0.9])
    assert critical_positions(scores, [4, 1], count=2).tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("by", ["attention", "saliency", "own"])
def test_each_sequence_is_scored_by_itself_and_without_adapters(by: str) -> None:
    model, tokens = tiny("local-and-global"), ids(17)
    model.requires_grad_(False)
    together = flow_scores(model, tokens, [9, 8], by=by)  # type: ignore[bad-argument-type]
    alone = [flow_scores(model, part, [len(part)], by=by) for part in tokens.split([9, 8])]  # type: ignore[bad-argument-type]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.shape == (17,) and bool((together >= 0).all()) and together.std() > 0
    slots = AdapterSlots.of(model)
    slots.default = slots.add(new_adapter(model, Reft(positions="critical")))
    torch.testing.assert_close(flow_scores(model, tokens, [9, 8], by=by), together)  # type: ignore[bad-argument-type]
    assert not any(block.attn.pattern._forward_hooks for block in model.blocks)


@pytest.mark.parametrize("quantised", [False, True])
def test_edits_at_critical_positions_lower_the_loss_and_leave_the_model(quantised: bool) -> None:
    model, text = tiny(), ids(14, seed=2)
    if quantised:
        freeze_quantised(model, "NF4", tables="Q8_0")
    model.requires_grad_(False)
    scores = flow_scores(model, text, [14], by="saliency")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapter = new_adapter(model, Reft(rank=4, positions="critical"), seed=0)
    slots = AdapterSlots.of(model)
    slots.default = slot = slots.add(adapter)
    ctx = Packed([14])
    ctx.edited = critical_positions(scores, [14], count=6)
    optimizer, losses = torch.optim.Adam(adapter.parameters(), lr=3e-2), []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model.head(model(text, ctx))[:-1], text[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    slots.remove(slot)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("by", ["attention", "saliency"])
def test_a_continuation_is_that_of_whole_passes_with_the_prompt_edited(by: str) -> None:
    model, prompt = tiny(), ids(9, seed=4)
    model.requires_grad_(False)
    adapter = new_adapter(model, Reft(rank=2, positions="critical"))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.4)
    slots = AdapterSlots.of(model)
    slots.default = slots.add(adapter)
    scores = flow_scores(model, prompt, [9], by=by)  # type: ignore[bad-argument-type]
    edited, read = critical_positions(scores, [9], count=3), prompt
    with torch.no_grad():
        for _ in range(5):
            ctx = Packed([len(read)])
            ctx.edited = torch.cat([edited, edited.new_zeros(len(read) - 9)])
            read = torch.cat([read, model.head(model(read, ctx)[-1:]).argmax(-1)])
    got = continue_edited(model, prompt.tolist(), count=3, max_tokens=5, by=by)  # type: ignore[bad-argument-type]
    assert got == read[9:].tolist()
    stopped = continue_edited(model, prompt.tolist(), count=3, max_tokens=5, by=by, stop_ids={got[2]})  # type: ignore[bad-argument-type]
    assert stopped == got[: got.index(got[2])]
    with pytest.raises(OrreryError, match="context"):
        continue_edited(model, [1] * 60, count=3, max_tokens=5)


def test_without_attention_there_is_nothing_to_go_by() -> None:
    with pytest.raises(OrreryError, match="no attention"):
        flow_scores(tiny("state-space"), ids(4), [4])
