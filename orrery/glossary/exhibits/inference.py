"""Exhibits of inference: prompts and single tokens, what limits their speed, fused kernels, a completion, a folder."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _prepared, _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.explicit import Explicit
from orrery.model.folder import load_model, save_model
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.plan.flops import count_flops
from orrery.plan.kv_cache import kv_bytes
from orrery.plan.parameters import count_parameters
from orrery.serve.lm import LM
from orrery.train.loss import cross_entropy
from orrery.train.optim.config import Muon


def _best(work: object, repeats: int = 3) -> float:
    """Seconds of the fastest of several calls."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - begun)
    return min(times)


@torch.no_grad()
def prefill_and_decode() -> Exhibit:
    """A prompt of 32 to 256 tokens read in one pass and token by token: time, speed, and whether the logits agree."""
    model = Decoder(_tiny.shape(d_model=128, n_layers=2, feed_forward=Mlp(d_ff=384))).eval()
    rows = []
    for length in (32, 128, 256):
        ids = torch.randint(256, (length,), generator=torch_generator(0, "prefill"))

        def at_once(ids: Tensor = ids) -> Tensor:
            return model.head(model(ids, Cached(KVCache(model, 1, len(ids)), [(0, 0, len(ids))])))[-1]

        def one_by_one(ids: Tensor = ids) -> Tensor:
            cache = KVCache(model, 1, len(ids))
            steps = [model.head(model(ids[i : i + 1], Cached(cache, [(0, i, 1)]))) for i in range(len(ids))]
            return steps[-1][-1]

        a, b = _best(at_once), _best(one_by_one, 1)
        rows.append(
            (
                length,
                1e3 * a,
                length / a,
                1e3 * b,
                length / b,
                b / a,
                (at_once() - one_by_one()).abs().max().item(),
            )
        )
    return Exhibit(
        title="A decoder of width 128 on this machine now",
        columns=("tokens", "prefill, ms", "tokens/s", "one by one, ms", "tokens/s", "times slower", "largest difference"),
        rows=rows,
        reads="The arithmetic is the same. In one pass each weight is loaded once for all tokens; one by one it is loaded for every token, and each step "
        "pays its overhead. A prompt can be read so, an answer cannot: its next token is not known.",
    )  # fmt: skip


@torch.no_grad()
def decode_by_batch() -> Exhibit:
    """One decoding step of a decoder of 14 million weights for 1 to 32 sequences: time a step and tokens a second."""
    model = Decoder(
        _tiny.shape(d_model=512, n_layers=4, n_heads=8, feed_forward=Mlp(d_ff=1536), max_positions=64)
    ).eval()
    weights = 4 * model.num_parameters()
    rows = []
    for batch in (1, 2, 4, 8, 16, 32):
        cache = KVCache(model, batch, 24)
        prompt = torch.randint(256, (16 * batch,), generator=torch_generator(0, "batch"))
        model(prompt, Cached(cache, [(row, 0, 16) for row in range(batch)]))
        token = torch.zeros(batch, dtype=torch.long)

        def step(token: Tensor = token, cache: KVCache = cache, batch: int = batch) -> Tensor:
            return model.head(model(token, Cached(cache, [(row, 16, 1) for row in range(batch)])))

        seconds = _best(step, 5)
        rows.append(
            (
                batch,
                1e3 * seconds,
                batch / seconds,
                weights / seconds / 1e9,
                batch * count_flops(model.cfg, 17).forward() / seconds / 1e9,
            )
        )
    return Exhibit(
        title=f"{model.num_parameters():,} weights, {weights / 1e6:.0f} MB in fp32",
        columns=("sequences", "ms a step", "tokens/s", "weights read, GB/s", "GFLOP/s"),
        rows=rows,
        series=[Series(name="ms a step", x=[r[0] for r in rows], y=[r[1] for r in rows])],
        x="sequences", y="ms a step", log_x=True,
        reads="One token needs every weight, so a step takes as long as reading them takes. Further sequences use the same reading and cost little, until "
        "the arithmetic units are busy and time grows with the batch.",
    )  # fmt: skip


def arithmetic_intensity_table() -> Exhibit:
    """FLOPs for each byte moved, by the planner: prefill and decoding of an 8B shape, at batches of 1 to 256."""
    cfg = DecoderConfig(
        n_layers=32, d_model=4096, n_heads=32, n_kv_heads=8, feed_forward=Mlp(d_ff=14_336), vocab_size=128_256, tied=False,
    )  # fmt: skip
    weights, context = 2 * count_parameters(cfg).active_without_input_embedding, 4096
    rows = []
    for what, batch in (("prefill", 1), ("decode", 1), ("decode", 16), ("decode", 64), ("decode", 256)):
        tokens = context if what == "prefill" else batch
        convention = "causal" if what == "prefill" else "full"
        flops = tokens * count_flops(cfg, context).forward(convention)  # type: ignore[arg-type]
        cache = batch * kv_bytes(cfg, context)
        rows.append((what, batch, f"{flops:.2e}", weights / 2**30, cache / 2**30, flops / (weights + cache)))
    balance = 989e12 / 3.35e12
    return Exhibit(
        title="32 layers, 4096 wide, bf16, 4096 tokens of context; activations left out",
        columns=("pass", "sequences", "FLOPs", "weights, GiB", "cache, GiB", "FLOPs a byte"),
        rows=rows,
        reads=f"A device that does 989e12 FLOP/s and moves 3.35e12 bytes a second (an H100) is busy from {balance:.0f} FLOPs a byte on. Prefill is far above, decoding "
        "below at every batch: sharing the weights helps until the caches, which nobody shares, are what is read.",
    )


def fused_attention() -> Exhibit:
    """Attention by the fused kernel against scores written out: outputs, gradients, and bytes kept for backward."""
    model = Decoder(_tiny.shape(n_layers=1, max_positions=1024))
    rows = []
    for length in (64, 256, 1024):
        ids = torch.randint(256, (length,), generator=torch_generator(0, "fused"))
        outs, grads, kept = [], [], []
        for context in (Packed, Explicit):
            bytes_kept: dict[int, int] = {}

            def keep(tensor: Tensor, bytes_kept: dict[int, int] = bytes_kept) -> Tensor:
                if tensor.numel():
                    bytes_kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            model.zero_grad()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                out = model(ids, context([length]))
            out.square().sum().backward()
            outs.append(out.detach())
            grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
            kept.append(sum(bytes_kept.values()))
        difference = ((grads[0] - grads[1]).norm() / grads[1].norm()).item()
        rows.append(
            (
                length,
                (outs[0] - outs[1]).abs().max().item(),
                difference,
                *kept,
                kept[0] / length,
                kept[1] / length,
            )
        )
    return Exhibit(
        title="One layer, 4 heads",
        columns=(
            "tokens",
            "outputs differ by",
            "gradients, relative",
            "kept, fused",
            "kept, written out",
            "a token, fused",
            "a token, written out",
        ),
        rows=rows,
        reads="The same numbers up to rounding. Written out, every pair of tokens leaves a score and a weight behind, and bytes a token grow with the length; the "
        "fused kernel keeps one number a row and computes the scores again in backward.",
    )


def fused_head_and_loss() -> Exhibit:
    """Cross-entropy over 8192 tokens of vocabulary: the head as a function, and fused with the loss in chunks."""
    hidden = torch.randn(512, 64, generator=torch_generator(0, "hidden"), requires_grad=True)
    weight = (0.1 * torch.randn(8192, 64, generator=torch_generator(0, "head"))).requires_grad_()
    targets = torch.randint(8192, (512,), generator=torch_generator(0, "targets"))
    rows, grads = [], []
    cases = {
        "logits written out": (lambda h: h @ weight.T, 512),
        "fused": (weight, None),
        "fused, 64 tokens at a time": (weight, 64),
    }
    for name, (head, chunk) in cases.items():
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        def step(head: object = head, chunk: int | None = chunk) -> Tensor:
            hidden.grad = weight.grad = None
            loss = cross_entropy(hidden, head, targets, torch.ones(512), chunk=chunk).mean()  # type: ignore[arg-type]
            loss.backward()
            return loss

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = step()
        assert hidden.grad is not None and weight.grad is not None
        grads.append(torch.cat([hidden.grad.flatten(), weight.grad.flatten()]))
        difference = ((grads[-1] - grads[0]).norm() / grads[0].norm()).item()
        rows.append((name, loss.item(), difference, sum(kept.values()) / 2**20, 1e3 * _best(step, 2)))
    return Exhibit(
        title="512 tokens, width 64: one matrix of logits is 16 MiB",
        columns=("head and loss", "loss", "gradients differ by", "MiB kept for backward", "ms, both ways"),
        rows=rows,
        reads="The gradient of a softmax is known as soon as its logits are, so a fused step makes both chunk by chunk and keeps no logits. Fusing does not change "
        "the arithmetic; it saves writing intermediate results to memory and reading them again.",
    )


def a_completion() -> Exhibit:
    """A decoder trained for a moment continues a line: ids, their log-probabilities, why it stopped, and the same scored again."""
    tokenizer = _prepared.tokenizer()
    ids = torch.tensor([token for text in _library.texts()[:8] for token in tokenizer.encode(text)])
    model = Decoder(_tiny.shape(vocab_size=tokenizer.vocab_size))
    _tiny.train(model, Muon(lr=0.02), steps=60, ids=ids)
    lm = LM(model=model.eval(), tokenizer=tokenizer)
    prompt = "    def __init__(self"
    answers = [
        lm.generate(prompt, max_tokens=12, temperature=0.0),
        lm.generate(prompt, max_tokens=12, temperature=0.8, seed=1),
        lm.generate(prompt, max_tokens=40, temperature=0.0, stop=" "),
    ]
    rows = []
    for name, answer in zip(("greedy", "temperature 0.8", "greedy, stop at a blank"), answers, strict=True):
        start = lm.prompt_ids(prompt)
        again = lm.score([*start, *answer.ids]).logprobs[len(start) - 1 :]
        error = max(abs(a - b) for a, b in zip(answer.logprobs, again, strict=True))
        text = answer.text.replace("\n", "⏎")
        rows.append((name, text, len(answer.ids), answer.finish_reason, sum(answer.logprobs), error))
    same = lm.generate(prompt, max_tokens=12, temperature=0.8, seed=1) == answers[1]
    return Exhibit(
        title=f"After '{prompt}'",
        columns=(
            "settings",
            "text",
            "tokens",
            "finish reason",
            "sum of log p",
            "scored again: off by",
        ),
        rows=rows,
        reads=f"A completion carries what is needed to judge it: ids, each one's log-probability, why it ended. The same request gives the same bytes ({same}). "
        "The product of the steps' probabilities is the probability of the whole.",
    )


def open_folder() -> Exhibit:
    """A decoder saved as a folder of open formats and opened again: files, names of tensors, equal logits."""
    model = Decoder(_tiny.shape(n_kv_heads=2)).eval()
    ids = torch.arange(32)
    with _prepared.folder() as where, torch.no_grad():
        save_model(model, where / "model")
        again = load_model(where / "model").eval()
        files = [(item.name, item.stat().st_size) for item in sorted((where / "model").iterdir())]
        logits = [m.head(m(ids, Packed([32]))) for m in (model, again)]
        from safetensors import safe_open

        with safe_open(where / "model" / "model.safetensors", framework="pt") as tensors:
            names = [(name, tuple(tensors.get_slice(name).get_shape())) for name in list(tensors.keys())[:5]]
    return Exhibit(
        title=f"{model.num_parameters():,} weights",
        columns=("file or tensor", "bytes or shape"),
        rows=[*files, *((name, str(shape)) for name, shape in names)],
        reads=f"Shapes in config.json, weights in safetensors under the names other libraries use, and no code: such a folder opens anywhere. Opened again the logits "
        f"are the same bits: {torch.equal(logits[0], logits[1])}.",
    )
