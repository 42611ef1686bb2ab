"""Exhibits on teaching a trained model more: what carries loss, what is forgotten, what that costs in memory."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

import torch

from orrery.data.batch import Batch
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits._prepared import tokenizer as small_tokenizer
from orrery.glossary.exhibits._tiny import shape
from orrery.model.adapters import AdapterSlots, Lora, new_adapter
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.text.chat import ChatFormat
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW
from orrery.train.state import model_tensors
from orrery.tune.continual import Retention, Task, learn, learn_in_turn
from orrery.tune.dialogue import Dialogue
from orrery.tune.example_set import ExampleSet
from orrery.tune.examples import Example, Renderer
from orrery.tune.loader import ExampleLoader, ExampleLoaderConfig
from orrery.tune.measure import batches_of, heldout_loss, states
from orrery.tune.rows import Row
from orrery.tune.shapes import samples_of, shape_of

KEYS, RULES = 16, 8
FIRST_KEY, FIRST_VALUE = RULES, RULES + KEYS
SHAPE = DecoderConfig(
    vocab_size=RULES + 2 * KEYS, d_model=32, n_layers=1, n_heads=2, feed_forward=Mlp(d_ff=64), max_positions=8
)
LOADER = ExampleLoaderConfig(context=2, rows=8)
RATE = AdamW(lr=3e-3, weight_decay=0.0)


def rule(number: int, keys: Sequence[int] = range(KEYS)) -> Task:
    """A task of its own: [task, key] -> value, by a rule that other tasks do not share; the value alone is learned."""
    rows = [(number, FIRST_KEY + key, FIRST_VALUE + (key * (2 * number + 1) + number) % KEYS) for key in keys]
    examples = ExampleSet.of((Example(row, (0.0, 0.0, 1.0)) for row in rows), name=f"task {number + 1}")
    return Task(name=f"task {number + 1}", train=examples, heldout=list(batches_of(examples, positions=1000)))


@torch.no_grad()
def error(model: Decoder, batches: Sequence[Batch]) -> float:
    """The part of the answers that is wrong."""
    (batch,) = batches
    asked = batch.weights > 0
    said = model.head(states(model, batch)[asked]).argmax(-1)
    return float((said != batch.targets[asked]).float().mean())


@functools.cache
def in_turn(tasks: int = 2, *, replay: float = 0.0, ewc: float = 0.0, steps: int = 60) -> Retention:
    """Some tasks learned one after another; errors."""
    chosen = [rule(number) for number in range(tasks)]
    return learn_in_turn(
        Decoder(SHAPE, seed=0),
        chosen,
        steps=steps,
        replay_share=replay,
        ewc=ewc,
        loader=LOADER,
        optimizer=RATE,
        measure=error,
    )


def forgetting_and_replay() -> Exhibit:
    """Three tasks learned in turn: the errors on each, with and without old examples among the new."""
    ways = {
        "nothing": in_turn(3),
        "replay, 30% of rows": in_turn(3, replay=0.3),
        "EWC": in_turn(3, ewc=1e5),
    }
    rows = [
        [way, f"after task {i}" if i else "before", *(f"{value:.0%}" for value in line)]
        for way, found in ways.items()
        for i, line in enumerate(found.values)
        if i or way == "nothing"
    ]
    worse = {way: sum(found.forgetting) / len(found.forgetting) for way, found in ways.items()}
    return Exhibit(
        title="Wrong answers to each of three tasks, learned one after another",
        reads=f"With nothing done about it the first two tasks end {worse['nothing']:.0%} worse than when they had just been learned; "
        f"with replay {worse['replay, 30% of rows']:.0%}, and with weights held where they mattered {worse['EWC']:.0%}.",
        columns=["remedy", "", *ways["nothing"].tasks],
        rows=rows,
    )


def replay_frontier() -> Exhibit:
    """The share of old examples against what is forgotten and what is still learned."""
    shares = [0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9]
    found = [in_turn(2, replay=share, steps=40) for share in shares]
    old, new = [one.values[-1][0] for one in found], [one.values[-1][1] for one in found]
    best = min(range(len(shares)), key=lambda i: old[i] + new[i])
    return Exhibit(
        title="Wrong answers to the old and the new task, by the share of old examples",
        reads=f"Without replay {old[0]:.0%} of the old answers are wrong; with nine of ten rows replayed {new[-1]:.0%} of the new ones are. "
        f"Both together are best at a share of {shares[best]:.0%}.",
        series=[Series(name="old task", x=shares, y=old), Series(name="new task", x=shares, y=new)],
        x="share of replayed rows",
        y="wrong answers",
    )


def fine_tuning_steps() -> Exhibit:
    """A model that knows related tasks and one that knows nothing learn the same new task."""
    new, steps = rule(6), [0, 5, 10, 20, 40, 80]
    curves = {"from a trained model": Decoder(SHAPE, seed=0), "from scratch": Decoder(SHAPE, seed=0)}
    known = [rule(number).train for number in range(6)]
    learn(curves["from a trained model"], ExampleLoader(known, LOADER), steps=250, optimizer=RATE)
    series = []
    for name, model in curves.items():
        y = []
        for before, now in zip([0, *steps], steps, strict=False):
            learn(model, ExampleLoader([new.train], LOADER), steps=now - before, optimizer=RATE)
            y.append(heldout_loss(model, new.heldout))
        series.append(Series(name=name, x=steps, y=y))
    ahead = [f"{s.y[3]:.2f}" for s in series]
    return Exhibit(
        title="The loss on a new task as it is learned",
        reads=f"After 20 steps the model that had learned six other tasks is at {ahead[0]} nats, the one that begins anew at {ahead[1]}.",
        series=series,
        x="steps",
        y="nats an answer",
    )


def instruction_mix() -> Exhibit:
    """The more kinds of tasks a model is tuned on, the better it does on one it was never given."""
    counts, unseen = [0, 1, 2, 4, 7], rule(7)
    losses = []
    for count in counts:
        model = Decoder(SHAPE, seed=0)
        if count:
            sets = [rule(number).train for number in range(count)]
            learn(model, ExampleLoader(sets, LOADER), steps=60, optimizer=RATE)
        losses.append(heldout_loss(model, unseen.heldout))
    return Exhibit(
        title="The loss on a task that is never trained, by the number of tasks that are",
        reads=f"Untuned, its answers cost {losses[0]:.2f} nats; after one other task {losses[1]:.2f}, after seven {losses[-1]:.2f}: what "
        "carries over is what all tasks share, here the form of an answer. One task alone is learned so well that it answers every question.",
        series=[Series(name="unseen task", x=counts, y=losses)],
        x="tasks tuned on",
        y="nats an answer",
    )


def what_carries_loss() -> Exhibit:
    """A dialogue as the trainer sees it: the ids that are learned and those that are only read."""
    tokenizer = small_tokenizer()
    messages = (
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    )
    chat = ChatFormat(tokenizer)
    (example,) = Renderer(tokenizer=tokenizer, chat=chat).examples(Dialogue(messages, "here"))
    stretches: list[tuple[bool, list[int]]] = []
    for token, weight in zip(example.ids, example.weights, strict=True):
        if not stretches or stretches[-1][0] != bool(weight):
            stretches.append((bool(weight), []))
        stretches[-1][1].append(token)
    return Exhibit(
        title="What of a dialogue is learned",
        reads=f"{example.supervised} of {len(example.ids)} ids carry loss: the answers with the token that ends them, and nothing else. "
        "Without that token a tuned model would not know when to stop.",
        columns=["text", "ids", "learned"],
        rows=[[tokenizer.decode(ids), len(ids), "yes" if learned else ""] for learned, ids in stretches],
    )


def shapes_of_data() -> Exhibit:
    """The same question and answer in five shapes that are in use, and the one dialogue they become."""
    asked, said = "What is 2 + 2?", "4"
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]},
        {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]},
        {"instruction": asked, "input": "", "output": said},
        {"prompt": asked, "completion": said},
        {"question": asked, "answer": said},
    ]
    made = [samples_of(Row("here", row))[0] for row in rows]
    same = all(sample == made[0] for sample in made)
    return Exhibit(
        title="Shapes of instruction data",
        reads=f"The five rows become {'one and the same dialogue' if same else 'different dialogues'}; which shape it is, is seen by the names "
        "of the fields.",
        columns=["shape", "row"],
        rows=[[shape_of(Row("here", row)), json.dumps(row)] for row in rows],
    )


def full_or_adapter() -> Exhibit:
    """What training all weights keeps in memory and in checkpoints, against an adapter beside them."""
    rows = []
    for name in ("all weights", "LoRA, rank 4"):
        model = Decoder(shape(), seed=0)
        whole = sum(p.nbytes for p in model.parameters())
        if name != "all weights":
            model.requires_grad_(False)
            slots = AdapterSlots.of(model)
            slots.default = slots.add(new_adapter(model, Lora(rank=4)))
        trained = [p for p in model.parameters() if p.requires_grad]
        rule_ = build_optimizer(model, AdamW())
        for p in trained:
            p.grad = torch.zeros_like(p)
        rule_.step()
        saved = sum(t.nbytes for t in model_tensors(model).values())
        sizes = [
            sum(p.numel() for p in trained),
            whole,
            sum(p.nbytes for p in trained),
            rule_.state_bytes(),
            saved + rule_.state_bytes(),
        ]
        rows.append([name, *(f"{size:,}" for size in sizes)])
    return Exhibit(
        title="Bytes that tuning keeps (activations aside)",
        reads="A full fine-tune keeps a gradient and two moments for every weight, four times the model in all; an adapter keeps them for its "
        "own few weights, and its checkpoints hold no copy of the model.",
        columns=["what learns", "weights", "model", "gradients", "optimiser", "checkpoint"],
        rows=rows,
    )
