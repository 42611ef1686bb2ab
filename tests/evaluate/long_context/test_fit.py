"""Prompts of exactly the length that was asked for, whatever the tokenizer and the frame."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.fit import Frame, fitted, sized
from orrery.evaluate.long_context.needle import grid, needle
from orrery.evaluate.long_context.tasks import TASKS, items
from orrery.kit.errors import OrreryError
from orrery.text import TokenizerConfig, train_tokenizer
from orrery.text.chat import ChatFormat

HAY = Filler.made_up(sentences=60)
TOKENIZER = train_tokenizer([" ".join(HAY.sentences)] * 3, TokenizerConfig(vocab_size=700))
FRAMES = {"base": Frame(tokenizer=TOKENIZER), "chat": Frame(tokenizer=TOKENIZER, chat=ChatFormat(TOKENIZER))}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_meets_the_length_exactly(task: str, frame: Frame) -> None:
    for item in items(task, n=1, depths=2, filler=HAY):
        for length in (900, 1203):
            trial = fitted(item, frame, length)
            assert trial.length == len(trial.ids) == length
            text = TOKENIZER.decode(trial.ids)
            assert item.question in text
            assert all(any(a in text for a in spellings) for spellings in item.answers)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(300, 700), depth=st.floats(0, 1), index=st.integers(0, 10**6))
def test_any_length_and_depth(length: int, depth: float, index: int) -> None:
    trial = fitted(needle(HAY, seed=0, index=index, depth=depth), FRAMES["chat"], length)
    assert trial.length == length


def test_the_chat_frame_is_counted_and_the_lead_belongs_to_base_models() -> None:
    item = needle(HAY, seed=0, depth=0.5)
    chat, base = sized(item, FRAMES["chat"], 20), sized(item, FRAMES["base"], 20)
    assert chat.ids[-1] == TOKENIZER.special["<|assistant|>"]
    assert TOKENIZER.decode(base.ids).endswith(item.lead)
    assert (chat.stop, base.stop) == ((), item.stop)


def test_too_short_a_prompt_is_refused() -> None:
    with pytest.raises(OrreryError, match="tokens at least; 20 are too few"):
        fitted(needle(HAY, seed=0, depth=0.5), FRAMES["base"], 20)


def test_depths_share_what_stands_before_the_needle() -> None:
    """The engine's prefix cache lives on this: the shallower prompt begins like the deeper one, up to its needle."""
    deep, half = (fitted(item, FRAMES["base"], 800).ids for item in grid(HAY, seed=0, depths=3)[:2])
    shared = next(i for i, (a, b) in enumerate(zip(deep, half, strict=True)) if a != b)
    assert shared > 0.35 * 800
