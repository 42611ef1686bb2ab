"""Training a drafter raises how many tokens a pass gives, and what was trained is what the engine's config opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orrery.data.batch import Batch, batch_of
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.kit.seeds import numpy_generator
from orrery.model import Decoder, DecoderConfig
from orrery.model.drafter_folder import save_drafter
from orrery.model.drafters import make_net
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.serve.speculate.config import Drafting, make_drafter
from orrery.serve.speculate.generate import speculative_generate
from orrery.serve.speculate.statistics import AcceptanceStatistics
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.loop import train
from orrery.train.objectives import DraftEagle, DraftMedusa, DraftSemi, MultiToken
from orrery.train.objectives.drafting import Drafted, accuracy
from orrery.train.optim.config import AdamW
from orrery.train.schedule import WSD

KINDS = {"medusa": DraftMedusa(), "eagle": DraftEagle(classification=1.0), "semi": DraftSemi()}


@dataclass(frozen=True)
class Walks:
    """Walks round a circle of 50 tokens in steps of 1, 3 or 7, which one sees after two tokens."""

    rank: int = 0
    world: int = 1
    fingerprint: str = "walks"

    @property
    def config(self) -> Any:
        return SimpleNamespace(micro_batches=1)

    def walk(self, number: int, length: int = 24) -> list[int]:
        rng = numpy_generator(0, "walk", number)
        start, step = int(rng.integers(50)), (1, 3, 7)[int(rng.integers(3))]
        return [100 + (start + step * i) % 50 for i in range(length)]

    def batch(self, step: int, micro: int = 0) -> Batch:
        return batch_of([self.walk(8 * step + row) for row in range(8)])


def run(model, objective, steps: int, out: Path, lr: float = 4e-3) -> None:
    cfg = TrainConfig(
        steps=steps, objective=objective, optimizer=AdamW(lr=lr), schedule=WSD(warmup=0.05, decay=0.5),
        checkpoint=CheckpointConfig(every_seconds=None), validate_every=None, sample_every=None, precision="fp32",
    )  # fmt: skip
    train(cfg, model=model, loader=Walks(), out=out)
    model.eval()


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory) -> LM:
    """A model that has learned the walks, with its MTP module."""
    cfg = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=48, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=96), mtp_heads=1,
        max_positions=64,
    )  # fmt: skip
    model = Decoder(cfg, seed=0)
    run(model, MultiToken(weights=(0.3,)), 150, tmp_path_factory.mktemp("base"))
    return LM(model=model.requires_grad_(False), tokenizer=tokenizer)


def gain(lm: LM, config: dict[str, Any], **sampling: Any) -> AcceptanceStatistics:
    """Acceptance in continuations of walks that nothing was trained on; what comes out is checked too."""
    statistics = AcceptanceStatistics()
    drafting = resolve(Drafting, config)
    for number in range(5):
        ids = Walks().walk(10_000 + number, 4)
        request = GenerateRequest(ids=ids, max_tokens=30, sampling=Sampling(**sampling), ignore_eos=True)
        done = speculative_generate(
            lm,
            request,
            make_drafter(drafting, lm),
            rule=drafting.rule,
            tokens=drafting.tokens,
            statistics=statistics,
        )
        if drafting.rule == "coupled":
            assert done.ids == lm.generate([request])[0].ids
    return statistics


@pytest.mark.parametrize("kind", KINDS)
def test_acceptance_rises_with_training(kind: str, base: LM, tmp_path: Path) -> None:
    objective = KINDS[kind]
    net = make_net(objective.net, base.model)
    net.reset_parameters(0)
    lengths = []
    for steps in (0, 150):
        if steps:
            run(Drafted(net), objective, steps, tmp_path / "run")
            if kind == "medusa":
                measured = accuracy(net, [Walks().batch(5000)])
                assert measured.shape == (4, 8) and float(measured.sum(1).max()) <= 1.0
                net.accuracy.copy_(measured)
        folder = tmp_path / f"drafter-{steps}"
        folder.mkdir()
        save_drafter(net, folder, tokenizer=base.tokenizer.fingerprint)
        settings = {"kind": kind, "path": str(folder)}
        lengths.append(gain(base, settings, temperature=0).mean_accepted_length)
    assert lengths[0] < 1.6 and lengths[1] > 2.5, lengths
    for rule in ("coupled", "rejection"):
        sampled = gain(base, {**settings, "rule": rule}, temperature=0.4, seed=1)
        assert sampled.mean_accepted_length > 2, (rule, sampled.mean_accepted_length)


def test_mtp_modules_that_were_trained_with_the_model_guess_well(base: LM) -> None:
    statistics = gain(base, {"kind": "mtp"}, temperature=0)
    assert statistics.by_position()[0] > 0.8


def test_the_frozen_model_stays_as_it_is(base: LM, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    drafted = Drafted(make_net(DraftEagle().net, base.model))
    drafted.net.reset_parameters(0)
    assert all(name.startswith("net.") for name, _ in drafted.named_parameters())
    run(drafted, DraftEagle(), 2, tmp_path / "run")
    after = base.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_drafter_of_another_model_is_refused(base: LM, tmp_path: Path, make_model) -> None:
    net = make_net(DraftEagle().net, base.model)
    net.reset_parameters(0)
    save_drafter(net, tmp_path, tokenizer="another")
    with pytest.raises(OrreryError, match="trained for another model"):
        make_drafter(resolve(Drafting, {"kind": "eagle", "path": str(tmp_path)}), base)
    save_drafter(net, tmp_path, tokenizer=base.tokenizer.fingerprint)
    with pytest.raises(OrreryError, match="of kind 'eagle'"):
        make_drafter(resolve(Drafting, {"kind": "medusa", "path": str(tmp_path)}), base)
    with pytest.raises(OrreryError, match="holds no drafter"):
        make_drafter(resolve(Drafting, {"kind": "semi", "path": str(tmp_path / "nowhere")}), base)
    (tmp_path / "drafter.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(OrreryError):
        make_drafter(resolve(Drafting, {"kind": "eagle", "path": str(tmp_path)}), base)
    plain = LM(model=make_model(base.tokenizer.vocab_size), tokenizer=base.tokenizer)
    with pytest.raises(OrreryError, match="no multi-token-prediction modules"):
        make_drafter(resolve(Drafting, {"kind": "mtp"}), plain)
