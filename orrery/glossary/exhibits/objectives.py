"""Exhibits of objectives: what is hidden, what is predicted, what the model was given to predict it from."""

from __future__ import annotations

import functools

import numpy as np
import torch

from orrery.data.batch import batch_of
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.kit.seeds import numpy_generator
from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.text.config import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, MASK, SPECIAL_TOKENS, TokenizerConfig
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import train_tokenizer
from orrery.train.loss import cross_entropy
from orrery.train.objectives.apply import compute, transform
from orrery.train.objectives.config import (
    CausalLM,
    FillInTheMiddle,
    MaskedLM,
    MultiToken,
    PrefixLM,
    SpanCorruption,
)
from orrery.train.objectives.fill_in_the_middle import FimTokens, rearrange, restore
from orrery.train.objectives.masked import mask_tokens
from orrery.train.objectives.span_corruption import corrupt, draw_spans
from orrery.train.objectives.span_corruption import restore as fill_spans
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW

SENTINELS = tuple(f"<|extra_{i}|>" for i in range(12))


@functools.cache
def _tokenizer() -> Tokenizer:
    cfg = TokenizerConfig(vocab_size=600, special_tokens=(*SPECIAL_TOKENS, *SENTINELS))
    return train_tokenizer(_library.texts()[:6:2], cfg)


def fill_in_the_middle_shown() -> Exhibit:
    """One line of code cut at two places and rearranged in both orders, and put together again."""
    tokenizer = _tokenizer()
    ids = np.array(tokenizer.encode("def area(width, height): return width * height"))
    tokens = FimTokens(*(tokenizer.special[name] for name in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)))
    first, second = len(ids) // 3, 2 * len(ids) // 3
    rows = [("as written", len(ids), tokenizer.decode(ids.tolist()), "")]
    for order in ("psm", "spm"):
        moved = rearrange(ids, first, second, tokens, order)  # type: ignore[arg-type]
        back = bool((restore(moved, tokens) == ids).all())
        rows.append((order, len(moved), tokenizer.decode(moved.tolist()), f"comes back: {back}"))
    return Exhibit(
        title=f"Cut after tokens {first} and {second} of {len(ids)}",
        columns=("order", "tokens", "what the model reads, left to right", ""),
        rows=rows,
        reads="The middle comes last, so a causal model predicts it having read both sides. Nothing else changes: the same mask, the same "
        "loss on every token, three tokens more.",
    )


def masked_tokens_shown() -> Exhibit:
    """A sentence under masked language modelling, and the shares of 20,000 tokens: hidden, replaced, left as they are."""
    tokenizer = _tokenizer()
    mask = tokenizer.special[MASK]
    ordinary = np.setdiff1d(np.arange(tokenizer.vocab_size), list(tokenizer.special.values()))
    ids = np.array(tokenizer.encode("return the number of items in the list, or raise an error"))
    shown, chosen = mask_tokens(ids, numpy_generator(5, "mask"), mask=mask, ordinary=ordinary)
    many = ordinary[np.arange(20_000) % len(ordinary)]
    seen, picked = mask_tokens(many, numpy_generator(0, "many"), mask=mask, ordinary=ordinary)
    masked, kept = seen[picked] == mask, seen[picked] == many[picked]
    names = [tokenizer.decode([int(i)]) for i in shown]
    return Exhibit(
        title="".join(names),
        columns=("quantity", "value"),
        rows=[
            ("predicted in the sentence", " | ".join(tokenizer.decode([int(i)]) for i in ids[chosen])),
            ("chosen, of 20,000", float(picked.mean())),
            ("of these shown as the mask", float(masked.mean())),
            ("shown as a random token", float((~masked & ~kept).mean())),
            ("shown as they are", float(kept.mean())),
            ("changed among the others", int((seen != many)[~picked].sum())),
        ],
        reads="Only the chosen tokens carry loss, 15 in 100, where a causal model learns from every one. A tenth of them are shown unchanged, so that "
        "the model cannot take every token it sees for right or every mask for the only question.",
    )


def spans_shown() -> Exhibit:
    """The example of the T5 paper through the shipped functions, and how long the drawn spans are on average."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]
    ids, sentinels = np.arange(len(words)), [100, 101, 102]
    inputs, targets = corrupt(ids, [(2, 4), (8, 9)], sentinels)
    names = {i: word for i, word in enumerate(words)} | {100: "<X>", 101: "<Y>", 102: "<Z>"}
    drawn = [span for n in range(200) for span in draw_spans(512, numpy_generator(0, "spans", n))]
    lengths = np.array([stop - start for start, stop in drawn])
    back = bool((fill_spans(inputs, targets, sentinels) == ids).all())
    return Exhibit(
        title=f"'{' '.join(words)}'",
        columns=("what", "value"),
        rows=[
            ("inputs", " ".join(names[int(i)] for i in inputs)),
            ("targets", " ".join(names[int(i)] for i in targets)),
            ("together they give the text back", back),
            ("share of tokens in spans, 200 texts of 512", float(lengths.sum() / (200 * 512))),
            ("mean length of a span", float(lengths.mean())),
            ("spans of one token", float((lengths == 1).mean())),
            ("tokens to read and write for 512 of text", 512 + 2 * len(drawn) / 200 + 1),
        ],
        reads="A sentinel stands for a span of any length, so the model must also find out how much is missing. The targets are short: most of the "
        "work goes into reading.",
    )  # fmt: skip


def objectives_on_one_text() -> Exhibit:
    """The same 192 tokens under five objectives: what is read, how many tokens are predicted, and the first loss."""
    tokenizer = _tokenizer()
    model = Decoder(_tiny.shape(vocab_size=tokenizer.vocab_size))
    ids = tokenizer.encode(_library.texts()[1][:3000])
    batch = batch_of([ids[:97], ids[97:194]])
    cases = {
        "causal": CausalLM(), "fill in the middle": FillInTheMiddle(rate=1.0), "prefix": PrefixLM(), "masked": MaskedLM(),
        "span corruption": SpanCorruption(),
    }  # fmt: skip
    rows = []
    for name, objective in cases.items():
        changed = transform(objective, batch, tokenizer, numpy_generator(0, "one text"))
        with torch.no_grad():
            loss = compute(objective, model, changed)
        predicted = int(changed.weights.sum())

        rows.append((name, len(changed), predicted, predicted / len(changed), loss.mean().item()))
    return Exhibit(
        title="Labels made from the text itself",
        columns=("objective", "tokens read", "predicted", "share", "nats a token, untrained"),
        rows=rows,
        reads="Nobody labelled anything: each objective hides a part of the text and asks for it. They differ in what is seen while guessing and in how "
        "many guesses a pass through the model gives.",
    )  # fmt: skip


def multi_token_depths() -> Exhibit:
    """A decoder with two further prediction depths, trained for a moment: the loss of each depth as it falls."""
    model = Decoder(_tiny.shape(mtp_heads=2))
    objective = MultiToken(weights=(0.3, 0.3))
    optimizer = build_optimizer(model, AdamW(lr=3e-3))
    steps, curves = 40, {"next": [], "one further": [], "two further": []}
    for step in range(steps):
        tokens, targets = _tiny.draw(step)
        batch = batch_of(
            [
                [*row, int(last)]
                for row, last in zip(tokens.view(-1, 64).tolist(), targets.view(-1, 64)[:, -1], strict=True)
            ]
        )
        optimizer.zero_grad()
        loss = compute(objective, model, batch)
        loss.mean().backward()
        optimizer.step()
        depths = [loss.stats[f"depth_{k}"].item() / w / (64 - k) / 8 for k, w in ((1, 0.3), (2, 0.3))]
        for name, value in zip(curves, (loss.stats["nll"].item() / 512, *depths), strict=True):
            curves[name].append(value)
    plain, more = Decoder(_tiny.shape()).num_parameters(), model.num_parameters()
    return Exhibit(
        title=f"Bytes of Python's library; the depths add {more - plain:,} weights to {plain:,}, and go when training ends",
        columns=("predicts", "loss at step 0", "mean of the last 10"),
        rows=[(name, values[0], sum(values[-10:]) / 10) for name, values in curves.items()],
        series=[Series(name=name, x=list(range(steps)), y=_tiny.smooth(values)) for name, values in curves.items()],
        x="step", y="nats a byte",
        reads="Each depth is told the byte before the one it predicts, so all three are about equally hard; only, the hidden state it starts from was made "
        "without that byte. Its gradient asks the model to prepare for more than the next step.",
    )  # fmt: skip


def teacher_forcing_and_free_running() -> Exhibit:
    """All positions of a text in one pass against one at a time, and the loss when the model must read its own guesses."""
    ids = _tiny.text_ids()
    model = Decoder(_tiny.shape())
    _tiny.train(model, steps=60)
    model.eval()
    length, begin, starts = 64, 16, range(100, 100 + 24 * 64, 64)
    texts = torch.stack([ids[s : s + length] for s in starts])
    with torch.no_grad():
        forced = model.head(model(texts[:, :-1].flatten(), Packed([length - 1] * len(texts)))).view(
            len(texts), length - 1, -1
        )
        cache = KVCache(model, rows=len(texts), capacity=length)
        apart, own, current = [], [], texts[:, :1]
        for i in range(length - 1):  # the text, one token at a time
            work = [(row, i, 1) for row in range(len(texts))]
            apart.append(model.head(model(texts[:, i], Cached(cache, work))))
        cache = KVCache(model, rows=len(texts), capacity=length)
        current = texts[:, 0]
        for i in range(length - 1):  # the text up to `begin`, then the model's own likeliest bytes
            logits = model.head(model(current, Cached(cache, [(row, i, 1) for row in range(len(texts))])))
            own.append(logits)
            current = texts[:, i + 1] if i + 1 < begin else logits.argmax(-1)
    difference = (torch.stack(apart, 1) - forced).abs().max().item()

    def nats(logits: torch.Tensor, first: int, last: int) -> float:
        flat = logits[:, first:last].flatten(0, 1)
        return (
            cross_entropy(flat, lambda h: h, texts[:, first + 1 : last + 1].flatten(), torch.ones(len(flat)))
            .mean()
            .item()
        )

    free = torch.stack(own, 1)
    spans = ((0, begin - 1), (begin - 1, begin), (begin, begin + 8), (begin + 8, length - 1))
    return Exhibit(
        title=f"24 texts of 64 bytes; from byte {begin} on the free-running model reads its own guesses",
        columns=("predicted bytes", "loss with the text given", "loss with own guesses given"),
        rows=[(f"{a + 1} to {b}", nats(forced, a, b), nats(free, a, b)) for a, b in spans],
        reads=f"One pass gives every position's loss, as 63 single steps would (largest difference of a logit {difference:.0e}); that is why training is "
        "parallel. After its own mistakes the model stands before texts it was never shown, and says worse things of the true one.",
    )
