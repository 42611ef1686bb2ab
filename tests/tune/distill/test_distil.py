"""Distillation in the loop: a student gets nearer than by hard labels, answers anew, and goes on after a stop with the same bits."""

from __future__ import annotations

import dataclasses
import os
import signal
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.data.batch import Batch
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.kit.log import read_jsonl
from orrery.model.adapters import Lora, Prompt
from orrery.model.config import DecoderConfig
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.train.signals import Interrupted
from orrery.train.state import model_tensors
from orrery.tune.dataset import SetConfig, Split
from orrery.tune.distill.answers import Answering, answered
from orrery.tune.distill.config import ForwardKl, JensenShannon, Mode, ReverseKl, Sampled
from orrery.tune.distill.distil import Nearness, TaughtLoss, distil, nearness
from orrery.tune.distill.teacher import fresh_student, require_same_tokenizer
from orrery.tune.example_set import ExampleSet
from orrery.tune.examples import Example, Renderer
from orrery.tune.loader import ExampleLoader, ExampleLoaderConfig
from orrery.tune.material import Material, gather
from orrery.tune.measure import batches_of
from orrery.tune.subject import Subject, beside

from ..conftest import Small
from ..rl.start import Start, taught

LOOP = TrainConfig(
    steps=40, precision="fp32", optimizer=AdamW(lr=5e-3), schedule=Constant(), validate_every=None, sample_every=None,
    checkpoint=CheckpointConfig(every_steps=2, every_seconds=None),
)  # fmt: skip
SHAPE = DecoderConfig(
    vocab_size=1, d_model=32, n_layers=1, n_heads=2, feed_forward=Mlp(d_ff=64), max_positions=64
)


@pytest.fixture(scope="module")
def start() -> Start:
    """The teacher: half of the time it is right, and knows so."""
    return taught()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of the kind that the teacher knows, with right answers."""
    folder = tmp_path_factory.mktemp("data")
    words = ["stone", "river", "cloud", "ember", "maple", "otter", "pearl", "quill", "raven", "tulip"]
    pairs = [f"{a}{b[:n]}" for a in words for b in words for n in (0, 2)]
    rows = [{"prompt": f'What is "{word}".upper()?', "completion": word.upper()} for word in pairs]
    write_rows(folder / "rows.jsonl", rows)
    return folder


def gathered(start: Start, folder: Path, **settings: Any) -> Material:
    return gather(
        [SetConfig(paths=("rows.jsonl",))], Renderer(tokenizer=start.tokenizer, chat=start.chat),
        ExampleLoaderConfig(context=64, rows=4, packing="none", long="drop"), root=folder, parts=Split(heldout=0.2), **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def material(start: Start, folder: Path) -> Material:
    return gathered(start, folder)


class Bell(ExampleLoader):
    """A loader that asks to stop as it draws step 7."""

    def batch(self, step: int, micro: int = 0) -> Batch:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return super().batch(step, micro)


def student(start: Start, seed: int = 0) -> Subject:
    return fresh_student(SHAPE, start.lm(), seed=seed)


def near(subject: Subject, start: Start, material: Material) -> Nearness:
    return nearness(
        subject.model, start.lm().model, material.validation_batches(), vocab_size=start.tokenizer.vocab_size
    )


def learn(start: Start, material: Material, out: Path, loop: TrainConfig = LOOP, **settings: Any) -> Subject:
    subject = student(start)
    distil(loop, student=subject, teacher=start.lm(), material=material, out=out, **settings)
    return subject


@pytest.fixture(scope="module")
def source(small: Small) -> tuple[Start, Material]:
    """A teacher that is a source of random text, and texts drawn from it: what hard labels are samples of."""
    model = small.model(seed=3, max_positions=64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
        model.embed.weight.mul_(4)
    lm = LM(model=model.eval(), tokenizer=small.tokenizer)
    requests = [
        GenerateRequest(ids=[5 + n], max_tokens=40, sampling=Sampling(seed=n), ignore_eos=True) for n in range(160)
    ]  # fmt: skip
    said = [
        (*request.ids, *one.ids) for request, one in zip(requests, Engine(lm).generate(requests), strict=True)
    ]
    texts = [Example(ids, (0.0,) + (1.0,) * 40) for ids in said]
    loader = ExampleLoader(
        [ExampleSet.of(texts[:120], name="drawn")], ExampleLoaderConfig(context=64, rows=4, packing="none")
    )
    heldout = list(batches_of(ExampleSet.of(texts[120:], name="drawn"), positions=4096))
    material = Material(loader=loader, heldout={"drawn": heldout}, learned=("drawn",), shown=None)
    return Start(model, small.tokenizer, None), material


def test_it_gets_nearer_than_by_hard_labels(source: tuple[Start, Material], tmp_path: Path) -> None:
    """As many steps on the same batches: what is learned from differs, nothing else."""
    start, material = source
    loop = dataclasses.replace(LOOP, optimizer=AdamW(lr=1e-2))
    before = near(student(start), start, material)
    hard = near(learn(start, material, tmp_path / "hard", loop, hard=1.0), start, material)
    modes: list[Mode] = [ForwardKl(temperature=2.0), ReverseKl(), JensenShannon(), ForwardKl(top_k=32)]
    for n, mode in enumerate(modes):
        soft = near(learn(start, material, tmp_path / str(n), loop, mode=mode), start, material)
        assert soft.forward_kl < 0.75 * hard.forward_kl < before.forward_kl, mode
        assert soft.reverse_kl < 0.75 * hard.reverse_kl < before.reverse_kl, mode
        assert soft.loss < hard.loss < before.loss and soft.agreement > hard.agreement, mode


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(start: Start, material: Material) -> None:
    """Also with an adapter that does nothing yet, and where the student reads virtual tokens that the teacher does not."""
    (batch, *_) = material.validation_batches()
    vocab = start.tokenizer.vocab_size
    same = near(dataclasses.replace(student(start), model=deepcopy(start.model)), start, material)
    assert same.forward_kl == pytest.approx(0, abs=1e-6) and same.agreement == 1.0
    for mode in (ForwardKl(), ReverseKl(), JensenShannon()):
        model = deepcopy(start.model)
        beside(model, Lora(rank=2), seed=0)
        loss = TaughtLoss(teacher=start.model, mode=mode, hard=0.0, vocab_size=vocab)
        assert loss(model, batch).sum.item() == pytest.approx(0, abs=1e-3)


def test_virtual_tokens_are_the_students_own(start: Start, folder: Path) -> None:
    """The teacher reads what stands behind them; an answer is drawn with them and they are put back in front."""
    batch = gathered(start, folder, placeholders=2).loader.batch(0)
    model = deepcopy(start.model).requires_grad_(False)
    beside(model, Prompt(tokens=2), seed=0)
    lm = LM(model=model, tokenizer=start.tokenizer, chat=start.chat)
    drawn = answered(batch, Engine(lm), Sampled(max_tokens=9), seed=0, context=64, placeholders=2)
    for given, made in zip(batch.tokens.split(batch.lengths), drawn.tokens.split(drawn.lengths), strict=True):
        assert made[:2].tolist() == [0, 0] and made[2:8].tolist() == given[2:8].tolist()
    vocab = start.tokenizer.vocab_size
    loss = TaughtLoss(teacher=start.model, mode=ForwardKl(), hard=0.0, vocab_size=vocab, placeholders=2)
    learned = [p for p in model.parameters() if p.requires_grad]
    for one in (batch, drawn):
        made = torch.autograd.grad(loss(model, one).sum, learned)
        assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in made)


def test_answers_in_place_of_the_given_ones(start: Start, material: Material) -> None:
    batch, lm = material.loader.batch(0), start.lm()
    engine = Engine(lm)
    greedy = answered(batch, engine, Sampled(temperature=0.0, max_tokens=20), seed=1, context=64)
    before = zip(batch.tokens.split(batch.lengths), batch.weights.split(batch.lengths), strict=True)
    after = zip(
        *(x.split(greedy.lengths) for x in (greedy.tokens, greedy.targets, greedy.weights)), strict=True
    )
    for (ids, weights), (tokens, targets, learned) in zip(before, after, strict=True):
        prompt = ids[: int(weights.nonzero()[0]) + 1].tolist()
        said = list(lm.generate(prompt, max_tokens=20, temperature=0.0).ids)
        assert tokens.tolist() == [*prompt, *said][:-1] and targets.tolist() == [*prompt, *said][1:]
        assert learned.tolist() == [0.0] * (len(prompt) - 1) + [1.0] * len(said)
    drawn = Sampled(max_tokens=30)
    one, same, other = (answered(batch, engine, drawn, seed=seed, context=64) for seed in (1, 1, 2))
    assert torch.equal(one.tokens, same.tokens) and one.lengths == same.lengths
    assert one.lengths != other.lengths or not torch.equal(one.tokens, other.tokens)
    short = answered(batch, engine, drawn, seed=1, context=max(batch.lengths))
    assert max(short.lengths) <= max(batch.lengths)


def test_shares_of_who_answers(start: Start, material: Material) -> None:
    engine = Engine(start.lm())
    speakers = [(engine, Sampled(share=0.5, max_tokens=2)), (engine, Sampled(share=0.3, max_tokens=3))]
    loader = Answering(material.loader, speakers, made_for="x", seed=0)
    longest = [int(loader.batch(step).weights.sum()) for step in range(60)]
    given = sum(n > 4 * 3 for n in longest)
    assert 5 <= given <= 20 and sum(n <= 4 * 2 for n in longest) >= 18
    other = Answering(material.loader, speakers, made_for="y", seed=0)
    assert loader.fingerprint != other.fingerprint != material.loader.fingerprint


@pytest.mark.parametrize(
    "settings",
    [
        {"on_policy": Sampled(share=0.5, max_tokens=8), "mode": JensenShannon(beta=0.9)},
        {"sequence_level": Sampled(share=1.0, max_tokens=12, temperature=0.0), "hard": 1.0},
    ],
    ids=["on-policy", "sequence level"],
)
def test_answers_of_models_teach_and_a_stopped_run_goes_on_bit_for_bit(
    start: Start, material: Material, tmp_path: Path, settings: dict[str, Any]
) -> None:
    loop = dataclasses.replace(LOOP, steps=24)
    whole = learn(start, material, tmp_path / "whole", loop, **settings)
    before, after = near(student(start), start, material), near(whole, start, material)
    assert after.forward_kl < 0.9 * before.forward_kl
    broken = student(start)
    again = {"teacher": start.lm(), "material": material, "out": tmp_path / "broken", **settings}
    bell = dataclasses.replace(material, loader=Bell(material.loader.sets, material.loader.config))
    with pytest.raises(Interrupted):
        distil(loop, student=broken, **{**again, "material": bell})
    result = distil(loop, student=(resumed := student(start)), **again)
    assert result.resumed_from == 8
    for (name, one), two in zip(
        model_tensors(whole.model).items(), model_tensors(resumed.model).values(), strict=True
    ):
        assert torch.equal(one, two), name
    with pytest.raises(OrreryError, match="other settings"):
        distil(loop, student=student(start), **{**again, "mode": ReverseKl()})


def test_what_is_logged(start: Start, material: Material, tmp_path: Path) -> None:
    loop = dataclasses.replace(LOOP, steps=4, validate_every=2)
    learn(start, material, tmp_path, loop, hard=0.25, mode=ForwardKl(temperature=2.0))
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    for line in lines:
        parts = 0.75 * 4 * line["divergence"] + 0.25 * line["cross_entropy"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
    assert lines[1]["validation"] > lines[3]["validation"] > 0


def test_what_does_not_go_together(start: Start, material: Material, tmp_path: Path) -> None:
    other = LM(
        model=start.model, tokenizer=train_tokenizer(["another text"] * 9, TokenizerConfig(vocab_size=300))
    )
    with pytest.raises(OrreryError, match="another tokenizer than the student"):
        require_same_tokenizer(other, start.tokenizer)
    refused: list[tuple[str, dict[str, Any]]] = [
        ("no targets to imitate", {"on_policy": Sampled(), "hard": 0.5}),
        ("more than 1 together", {"on_policy": Sampled(share=0.6), "sequence_level": Sampled(share=0.6)}),
        (
            "cannot be compiled",
            {"on_policy": Sampled(), "loop": dataclasses.replace(LOOP, compile=True)},
        ),
        ("loss of its own", {"loop": dataclasses.replace(LOOP, z_loss=0.1)}),
    ]
    for match, settings in refused:
        with pytest.raises(OrreryError, match=match):
            learn(start, material, tmp_path, **settings)
    narrow = dataclasses.replace(start.model.cfg, max_positions=32)
    teacher = start.lm()
    teacher.model.cfg = narrow
    with pytest.raises(OrreryError, match="teacher's context of 32"):
        distil(LOOP, student=student(start), teacher=teacher, material=material, out=tmp_path)


def test_a_fresh_student_has_the_teachers_tokens(start: Start) -> None:
    made = student(start)
    assert (
        made.model.cfg.vocab_size == start.tokenizer.vocab_size and made.tokenizer is not None and made.chat
    )
    hidden = made.model(torch.arange(5), Packed([5]))
    assert made.model.head(hidden).shape == (5, start.tokenizer.vocab_size)
