"""Drafting for many sequences at once: in the engine, and against drafting for each alone."""

from __future__ import annotations

import pytest
import torch

from orrery.kit.lm import GenerateRequest, Sampling
from orrery.model.drafter_folder import save_drafter
from orrery.model.drafters import EagleConfig, MedusaConfig, SemiAutoregressiveConfig, make_net
from orrery.model.packed import Packed
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.serve.sampling import Chooser
from orrery.serve.speculate.config import DraftModel, EagleLayer, Lookup, MedusaHeads, Mtp, Semi, make_drafter
from orrery.serve.speculate.drafter import DraftView

NETS = {"medusa": MedusaConfig(), "eagle": EagleConfig(), "semi": SemiAutoregressiveConfig()}
KINDS = ["lookup", "draft_model", "draft tree", "medusa", "eagle", "eagle tree", "mtp", "semi"]
PROMPTS = [[5, 9, 33, 70, 5, 9, 33], [12, 5], [7, 7, 7, 8, 7, 7], [40, 41, 42, 43, 44, 45, 46, 47, 48]]


@pytest.fixture(scope="module")
def lm(tokenizer, make_model) -> LM:
    return LM(model=make_model(tokenizer.vocab_size, mtp_heads=2, max_positions=96), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def configs(lm: LM, make_model, save_lm, tmp_path_factory) -> dict:
    """Every kind, with folders of drafters that were never trained."""
    base = tmp_path_factory.mktemp("drafters")
    for name, cfg in NETS.items():
        net = make_net(cfg, lm.model)
        net.reset_parameters(1)
        (base / name).mkdir()
        save_drafter(net, base / name, tokenizer=lm.tokenizer.fingerprint)
    small = make_model(lm.tokenizer.vocab_size, n_layers=1, max_positions=96)
    mine = lm.model.state_dict()
    small.load_state_dict({name: mine[name] for name in small.state_dict()})
    save_lm(LM(model=small, tokenizer=lm.tokenizer), base / "small")
    return {
        "lookup": Lookup(),
        "draft_model": DraftModel(model=str(base / "small")),
        "draft tree": DraftModel(model=str(base / "small"), branches=(2, 2)),
        "medusa": MedusaHeads(path=str(base / "medusa"), tokens=6),
        "eagle": EagleLayer(path=str(base / "eagle")),
        "eagle tree": EagleLayer(path=str(base / "eagle"), branches=(2, 1, 1)),
        "mtp": Mtp(),
        "semi": Semi(path=str(base / "semi")),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_gives_the_bytes_of_no_speculation(kind: str, lm: LM, configs) -> None:
    requests = [
        GenerateRequest(
            ids=ids, max_tokens=24 - i, ignore_eos=True, request_id=str(i), n=1 + (i == 2),
            sampling=Sampling(temperature=0.9 * (i % 2), seed=i),
        )
        for i, ids in enumerate(PROMPTS)
    ]  # fmt: skip
    engine = Engine(lm, EngineConfig(speculation=configs[kind], token_budget=40, max_sequences=3))
    done = engine.generate(requests)
    plain = lm.generate(requests)
    assert [c.ids for c in done] == [c.ids for c in plain]
    assert [c.text for c in done] == [c.text for c in plain]
    assert [o.ids for o in done[2].others] == [o.ids for o in plain[2].others]
    assert sum(c.drafted for c in done) > 0
    engine.check()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_together_as_alone(kind: str, lm: LM, configs) -> None:
    """Views of one call do not see each other; one that is new, and one without room, stand among them."""
    together, alone = (make_drafter(configs[kind], lm) for _ in range(2))

    def view(ticket: int, ids: list[int], hidden: torch.Tensor, room: int) -> DraftView:
        request = GenerateRequest(
            ids=ids, sampling=Sampling(temperature=0.8, seed=ticket), request_id=str(ticket)
        )
        chooser = Chooser(request, lm.config.vocab_size, lm.tokenizer.vocab_size)
        return DraftView(ticket=ticket, ids=ids, chooser=chooser, room=room, hidden=hidden[-1])

    said = dict(enumerate(PROMPTS))
    for turn in range(3):
        views = []
        for ticket, ids in said.items():
            hidden = lm.model(torch.tensor(ids[:-1]), Packed([len(ids) - 1]))
            fresh = ids[:-1] if turn == 0 else ids[-4:-1]
            for drafter in (together, alone):
                drafter.accepted(ticket, fresh, hidden[-len(fresh) :])
            views.append(view(ticket, ids, hidden, room=0 if ticket == turn else 9))
        found = together.propose(views, 4)
        wanted = [draft for one in views for draft in alone.propose([one], 4)]
        assert [(d.ids, d.parents) for d in found] == [(d.ids, d.parents) for d in wanted]
        assert len(found[turn]) == 0
        if turn == 1:
            together.forget(3)
            alone.forget(3)
            del said[3]
        said = {
            ticket: [*ids, *(found[ticket].ids or (1,))[:2], 50, 51][: len(ids) + 3]
            for ticket, ids in said.items()
        }
