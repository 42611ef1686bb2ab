"""What a request may look at, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.lm import Observe
from orrery.model.block import ParallelBlock, SingleBlock
from orrery.model.decoder import Decoder
from orrery.model.probe import Probe

LENS, ATTENTION, ENTROPY = "logit_lens", "attention", "attention_entropy"
MOST_NUMBERS = 4_000_000
"""How many numbers a request may look at: some 130 MB of Python floats."""


def check_observe(model: Decoder, observe: Sequence[Observe], *, prompt: int, made: int) -> None:
    """Refuse what cannot be looked at in a request with `prompt` tokens that makes at most `made`.

    Raises:
        OrreryError: an unknown activation or layer, one thing twice, or more numbers than MOST_NUMBERS.
    """
    names = observable(model)
    numbers = 0
    for i, wish in enumerate(observe):
        if wish.what in {other.what for other in observe[:i]}:
            raise OrreryError(f"'{wish.what}' is to be observed twice; ask for all its layers at once")
        if wish.what not in (LENS, ATTENTION, ENTROPY) and (
            wish.what not in names or wish.layers is not None
        ):
            how = (
                "takes no layers: its name says which"
                if wish.what in names
                else "is no activation of this model"
            )
            near = suggest(wish.what, [LENS, ATTENTION, ENTROPY, *names])
            raise OrreryError(f"cannot observe '{wish.what[:80]}', which {how}.{near}")
        strange = [layer for layer in wish.layers or () if not 0 <= layer < len(model.blocks)]
        if strange or len(set(wish.layers or ())) < len(wish.layers or ()):
            raise OrreryError(
                f"cannot observe the layers {list(wish.layers or ())}: each once, from 0 to {len(model.blocks) - 1}"
            )
        if not 1 <= wish.top <= model.cfg.vocab_size:
            raise OrreryError(
                f"top must lie between 1 and the vocabulary of {model.cfg.vocab_size}, not {wish.top}"
            )
        numbers += observed_numbers(model, wish, prompt=prompt, made=made)
    if numbers > MOST_NUMBERS:
        raise OrreryError(
            f"this request would look at up to {numbers:,} numbers, over the limit of {MOST_NUMBERS:,}; name fewer layers, leave "
            "the prompt out, or make fewer tokens"
        )


def observed_numbers(model: Decoder, wish: Observe, *, prompt: int, made: int) -> int:
    """How many numbers a wish gives at most."""
    first = 1 if wish.prompt else prompt
    rows, keys = prompt + made - first, (prompt + made) * (prompt + made - 1) // 2 - first * (first - 1) // 2
    layers, heads = len(model.blocks) if wish.layers is None else len(wish.layers), model.cfg.n_heads
    match wish.what:
        case "logit_lens":
            return rows * layers * 2 * wish.top
        case "attention":
            return keys * layers * heads
        case "attention_entropy":
            return rows * layers * heads
    return rows * max(model.cfg.d_model, heads * model.cfg.head_size)


def observable(model: Decoder) -> set[str]:
    """Names of the activations that every pass shows: blocks (the stream behind them) and the probes inside, but for `pattern`,
    which is seen as "attention", and the middle of blocks that have none."""
    names: set[str] = set()
    for i, block in enumerate(model.blocks):
        names.add(f"blocks.{i}")
        for name, module in block.named_modules():
            middle = name == "residual_mid" and isinstance(block, ParallelBlock | SingleBlock)
            if isinstance(module, Probe) and not name.endswith("pattern") and not middle:
                names.add(f"blocks.{i}.{name}")
    return names
