"""Lookup: the longest earlier match, found as a search through the whole text finds it; and drafts that follow what is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.lm import GenerateRequest, Sampling
from orrery.kit.seeds import numpy_generator
from orrery.serve.lm import LM
from orrery.serve.sampling import Chooser
from orrery.serve.speculate.drafter import DraftView
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.lookup import CANDIDATES, LONGEST, LookupDrafter, SuffixIndex, copied
from orrery.serve.speculate.statistics import AcceptanceStatistics


def view(ids: list[int], room: int = 100) -> DraftView:
    return DraftView(ticket=0, ids=ids, chooser=Chooser(GenerateRequest(ids=ids), 1000, 1000), room=room)


def test_the_longest_match_by_hand() -> None:
    index = SuffixIndex(2)
    index.extend([1, 2, 3, 9, 8, 2, 3, 7, 1, 2, 3])
    assert index.longest_match() == (3, 3)  # 1 2 3 -> 9, longer than 2 3 -> 7
    index.extend([7])
    assert index.longest_match() == (8, 3)  # 2 3 7 -> 1
    index.extend([5])
    assert index.longest_match() == (-1, 0)


def test_of_equal_matches_the_newest_counts() -> None:
    index = SuffixIndex(2)
    index.extend([1, 2, 5, 1, 2, 6, 1, 2])
    assert index.longest_match() == (5, 2)


@given(st.lists(st.integers(0, 2), max_size=CANDIDATES), st.integers(1, 3))
def test_as_a_search_through_the_whole_text(ids: list[int], shortest: int) -> None:
    index = SuffixIndex(shortest)
    for token in ids:
        index.extend([token])
    best = (-1, 0)
    for place in range(len(ids) - 1, 0, -1):
        same = 0
        while same < min(LONGEST, place) and ids[place - 1 - same] == ids[-1 - same]:
            same += 1
        if same >= shortest and same > best[1]:
            best = (place, same)
    assert index.longest_match() == best


def test_a_copy_runs_round_a_cycle() -> None:
    assert copied([4, 5, 6, 4, 5, 6], 3, 7) == [4, 5, 6, 4, 5, 6, 4]
    assert copied([1, 1], 1, 4) == [1, 1, 1, 1]


def test_drafts_grow_while_all_is_kept_and_shrink_to_one_more_than_was() -> None:
    drafter, text = LookupDrafter(), list(range(10, 60))
    ids = [*text, 10, 11]
    (first,) = drafter.propose([view(ids)], 32)
    assert first.ids == (12, 13, 14, 15) and first.probabilities is None
    ids += [*first.ids, 16]
    (second,) = drafter.propose([view(ids)], 32)
    assert second.ids == tuple(range(17, 25))  # all four were kept: eight
    ids += [17, 18, 99]  # two of eight were kept
    ids += [30, 31]
    (third,) = drafter.propose([view(ids)], 32)
    assert third.ids == (32, 33, 34)
    drafter.forget(0)
    assert len(drafter.propose([view(ids)], 32)[0]) == 4


def test_drafts_stay_within_room_and_limit() -> None:
    ids = [1, 2, 3, 4, 5, 6, 1, 2]
    assert LookupDrafter().propose([view(ids, room=2)], 8)[0].ids == (3, 4)
    assert LookupDrafter().propose([view(ids)], 3)[0].ids == (3, 4, 5)
    assert len(LookupDrafter().propose([view(ids, room=0)], 8)[0]) == 0
    assert len(LookupDrafter(shortest=3).propose([view(ids)], 8)[0]) == 0


def test_where_matches_lead_nowhere_drafting_stops() -> None:
    """Pairs repeat and what follows them never does: after a few vain drafts longer matches are asked for."""
    rng = numpy_generator(0, "noise")
    drafter, ids, drafts = LookupDrafter(), rng.integers(0, 6, 400).tolist(), 0
    for token in rng.integers(0, 6, 300).tolist():
        drafts += len(drafter.propose([view(ids)], 8)[0]) > 0
        ids.append(token)
    assert drafts < 100  # without doubt there would be one each time


def test_text_that_repeats_its_source_is_mostly_copied(tokenizer, make_model) -> None:
    """A greedy model in a loop is the simplest text that repeats."""
    lm = LM(model=make_model(tokenizer.vocab_size, max_positions=200), tokenizer=tokenizer)
    statistics = AcceptanceStatistics()
    request = GenerateRequest(
        ids=[5, 9, 33], max_tokens=150, sampling=Sampling(temperature=0), ignore_eos=True
    )
    done = speculative_generate(lm, request, LookupDrafter(), tokens=8, statistics=statistics)
    (plain,) = lm.generate([request])
    assert done.ids == plain.ids
    assert statistics.mean_accepted_length > 4 and statistics.rate > 0.8


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_a_source_in_the_prompt_is_copied(temperature: float, tokenizer) -> None:
    """A model that copies: bias forces the text that stands in the prompt."""
    source = list(range(40, 80))
    chooser = Chooser(GenerateRequest(ids=source, sampling=Sampling(temperature=temperature)), 400, 400)
    drafter, ids, kept = LookupDrafter(), [*source, 300, 40, 41], 0
    for _ in range(5):
        (draft,) = drafter.propose([DraftView(ticket=0, ids=ids, chooser=chooser, room=99)], 16)
        truth = list(range(ids[-1] + 1, 80))
        agreed = [a for a, b in zip(draft.ids, truth, strict=False) if a == b]
        kept += len(agreed)
        ids += truth[: len(agreed) + 1]
    assert kept >= 30
