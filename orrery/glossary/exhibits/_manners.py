"""A small model that does whatever it is asked in a world of harmless things, and what lessons and preferences make of it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from orrery.evaluate.alignment.safety import REFUSAL, Request, pairs, refusals, toy_requests
from orrery.kit.json_lines import write_rows
from orrery.kit.log import console
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.train.config import TrainConfig
from orrery.train.loop import train
from orrery.train.optim.config import AdamW, Muon, OptimizerConfig
from orrery.train.schedule import Constant
from orrery.tune.dataset import SetConfig, Split
from orrery.tune.examples import Renderer
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.material import gather
from orrery.tune.preference.config import Dpo, PairLoaderConfig, PreferenceConfig
from orrery.tune.preference.material import gather_comparisons
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.preference.trainer import prefer

CONTEXT = 64


@functools.cache
def complier() -> LM:
    """It answers every request of the training side, forbidden or not; do not change it."""
    requests = toy_requests(heldout=False)
    texts = [f"{one.text}\n{one.answer}\n{REFUSAL}\n" for one in [*requests, *toy_requests(heldout=True)]]
    tokenizer = train_tokenizer(texts * 2, TokenizerConfig(vocab_size=512))
    shape: dict[str, Any] = {
        "d_model": 64, "n_layers": 2, "n_heads": 2, "feed_forward": Mlp(d_ff=128), "max_positions": CONTEXT,
    }  # fmt: skip
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, **shape), seed=1)
    lm = LM(model=model, tokenizer=tokenizer, chat=ChatFormat(tokenizer))
    answers = [{"prompt": one.text, "completion": one.answer} for one in requests]
    return tuned(lm, answers, steps=110, optimizer=Muon(lr=1e-2, weight_decay=0.0))


def tuned(lm: LM, rows: Sequence[dict[str, str]], *, steps: int, optimizer: OptimizerConfig) -> LM:
    """A copy that learned these answers."""
    lm = _copy(lm)
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name) / "rows.jsonl", rows)
        material = gather(
            [SetConfig(paths=("rows.jsonl",))], Renderer(tokenizer=lm.tokenizer, chat=lm.chat), ExampleLoaderConfig(context=CONTEXT, rows=8),
            root=Path(name), parts=Split(heldout=0.0),
        )  # fmt: skip
        with _quiet():
            train(
                _loop(steps, optimizer),
                model=lm.model,
                loader=material.loader,
                out=Path(name) / "run",
                vocabulary=lm.tokenizer,
            )
    return lm


def preferring(lm: LM, rows: Sequence[dict[str, str]], *, steps: int, lr: float) -> LM:
    """A copy that learned to like the chosen answers better, by DPO."""
    lm = _copy(lm)
    cfg = PreferenceConfig(
        loss=Dpo(beta=0.1, imitate=1.0), loader=PairLoaderConfig(context=CONTEXT, pairs=16)
    )
    with tempfile.TemporaryDirectory() as name:
        write_rows(Path(name) / "pairs.jsonl", rows)
        found = gather_comparisons(
            [PreferenceSet(paths=("pairs.jsonl",))], Renderer(tokenizer=lm.tokenizer, chat=lm.chat), cfg.loss, cfg.loader, root=Path(name),
            heldout=0.0,
        )  # fmt: skip
        with _quiet():
            prefer(
                cfg,
                _loop(steps, AdamW(lr=lr, weight_decay=0.0)),
                lm=lm,
                comparisons=found,
                out=Path(name) / "run",
            )
    return lm


@functools.cache
def stages() -> tuple[LM, LM, LM]:
    """The complier, the same after some lessons in refusing, and that after preferences."""
    requests = toy_requests(heldout=False)
    start = complier()
    lessons = refusals([*only(requests, "forbidden")[:8], *only(requests, "plain")[:8]])
    refusing = tuned(start, lessons, steps=50, optimizer=AdamW(lr=1.2e-3, weight_decay=0.0))
    return start, refusing, preferring(refusing, pairs(requests), steps=40, lr=8e-4)


def only(requests: Sequence[Request], *kinds: str) -> list[Request]:
    """Those of these kinds."""
    return [one for one in requests if one.kind in kinds]


def _copy(lm: LM) -> LM:
    return LM(model=deepcopy(lm.model), tokenizer=lm.tokenizer, chat=lm.chat)


def _loop(steps: int, optimizer: OptimizerConfig) -> TrainConfig:
    return TrainConfig(
        steps=steps, precision="fp32", optimizer=optimizer, schedule=Constant(), validate_every=None, sample_every=None,
    )  # fmt: skip


class _quiet:
    """Training says nothing inside the block."""

    def __enter__(self) -> None:
        self.before, console.quiet = console.quiet, True

    def __exit__(self, *error: object) -> None:
        console.quiet = self.before
