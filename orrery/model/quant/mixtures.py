"""Named file types: which tensor of a model is stored in which block format.

A file type is one format for most matrices and better ones where errors cost most: the output (and an embedding tied to
it), attention values, and the down projections of some layers. Norms, biases and other small tensors stay F32. Rows that
are no whole number of 256-blocks fall back to a format of 32-blocks with about the same or more bits. The choices are
those of llama.cpp, so that a file of a name has the size and quality its users know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orrery.kit.errors import OrreryError, suggest
from orrery.model.quant.codec import FORMATS


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: its layer, of how many; query heads per key head; experts (0: dense)."""

    layer: int
    n_layers: int
    groups: int
    experts: int


Rule = tuple[str, Callable[[Place], bool]]  # (format, where it applies); the first that applies is taken


def always(place: Place) -> bool:
    return True


def first(count: int) -> Callable[[Place], bool]:
    """The first `count` layers."""
    return lambda place: place.layer < count


def first_part(parts: int) -> Callable[[Place], bool]:
    """The first 1/parts of the layers."""
    return lambda place: place.layer < place.n_layers // parts


def sensitive(place: Place) -> bool:
    """The first and the last eighth of the layers, and every third between: half of all, spread out."""
    eighth = place.n_layers // 8
    return place.layer < eighth or place.layer >= 7 * place.n_layers // 8 or (place.layer - eighth) % 3 == 2


def grouped(place: Place) -> bool:
    """Four or more query heads share a value head, so value matrices are small and their errors are shared."""
    return place.groups >= 4


@dataclass(frozen=True)
class Mixture:
    """One file type: its number in `general.file_type`, its main format, and the exceptions.

    values: attention values (or the fused query-key-value matrix); down: feed-forward down projections;
    output: attention output projections.
    """

    file_type: int
    base: str
    values: tuple[Rule, ...] = ()
    down: tuple[Rule, ...] = ()
    output: tuple[Rule, ...] = ()

    def __call__(
        self,
        name: str,
        shape: Sequence[int],
        layer: int | None = None,
        n_layers: int = 1,
        *,
        tied: bool = True,
        groups: int = 1,
        experts: int = 0,
    ) -> str:
        """The format for the tensor `name` (GGUF's, as in blk.3.attn_v.weight) of `shape` (rows last).

        layer: None reads it off the name; tied: the embedding is also the output head; groups: query heads per key head;
        experts: how many, 0 for a dense model.
        """
        if len(shape) < 2 or not name.endswith(".weight") or KEEP.search(name):
            return "F32"
        if FORMATS[self.base].block == 1:
            return self.base
        if layer is None:
            found = re.match(r"blk\.(\d+)\.", name)
            layer = int(found.group(1)) if found else 0
        kind = self._preferred(name, shape, tied, Place(layer, n_layers, groups, experts))
        return fallback(kind, shape[-1])

    def _preferred(self, name: str, shape: Sequence[int], tied: bool, place: Place) -> str:
        if name == "output.weight" or (tied and name == "token_embd.weight"):
            fits = shape[-1] % FORMATS[self.base].block == 0
            return "Q6_K" if fits and self.base not in ("Q8_0", "MXFP4") else "Q8_0"
        if self.base == "MXFP4":
            return "MXFP4" if len(shape) == 3 else "Q8_0"
        if name == "token_embd.weight":
            return "Q4_K" if self.base in ("TQ1_0", "TQ2_0") else self.base
        eight = place.experts == 8  # the attention of such a model is small beside its experts: spend on it
        if re.search(r"\.attn_(v|qkv|kv_b)\.weight$", name):
            return "Q8_0" if eight else _apply(self.values, place, self.base)
        if name.endswith(".attn_k.weight"):
            return "Q8_0" if eight else self.base
        if ".ffn_down" in name:
            return _apply(self.down, place, self.base)
        if name.endswith(".attn_output.weight"):
            if eight and self.base in ("Q2_K", "Q3_K", "Q4_K", "IQ4_NL", "IQ4_XS"):
                return "Q5_K"
            return self.base if eight else _apply(self.output, place, self.base)
        return self.base


# Matrices kept in F32: small, or with an outsized effect (norms, routers, convolutions, positions, token types).
KEEP = re.compile(
    r"_norm(_\d)?\.weight$|ffn_gate_inp|ssm_conv1d|shortconv\.conv|^position_embd|^token_types|attn_rel_b|altup|laurel"
)
NARROWER = {
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
MIXTURES: dict[str, Mixture] = {
    "f32": Mixture(0, "F32"),
    "f16": Mixture(1, "F16"),
    "bf16": Mixture(32, "BF16"),
    "q8_0": Mixture(7, "Q8_0"),
    "q4_0": Mixture(2, "Q4_0"),
    "q4_1": Mixture(3, "Q4_1"),
    "q5_0": Mixture(8, "Q5_0"),
    "q5_1": Mixture(9, "Q5_1"),
    "q2_k": Mixture(
        10,
        "Q2_K",
        values=(("Q4_K", grouped), ("Q3_K", always)),
        down=(("Q3_K", always),),
        output=(("Q3_K", always),),
    ),
    "q3_k_s": Mixture(11, "Q3_K"),
    "q3_k_m": Mixture(
        12,
        "Q3_K",
        values=(("Q5_K", first(2)), ("Q4_K", always)),
        down=(("Q5_K", first_part(16)), ("Q4_K", always)),
        output=(("Q4_K", always),),
    ),
    "q3_k_l": Mixture(
        13, "Q3_K", values=(("Q5_K", always),), down=(("Q5_K", always),), output=(("Q5_K", always),)
    ),
    "q4_k_s": Mixture(14, "Q4_K", values=(("Q5_K", first(4)),), down=(("Q5_K", first_part(8)),)),
    "q4_k_m": Mixture(15, "Q4_K", values=(("Q6_K", sensitive),), down=(("Q6_K", sensitive),)),
    "q5_k_s": Mixture(16, "Q5_K"),
    "q5_k_m": Mixture(17, "Q5_K", values=(("Q6_K", sensitive),), down=(("Q6_K", sensitive),)),
    "q6_k": Mixture(18, "Q6_K"),
    "iq4_nl": Mixture(25, "IQ4_NL", values=(("Q5_K", grouped),), down=(("Q5_K", first_part(8)),)),
    "iq4_xs": Mixture(30, "IQ4_XS", values=(("Q5_K", grouped),), down=(("Q5_K", first_part(8)),)),
    "tq1_0": Mixture(36, "TQ1_0"),
    "tq2_0": Mixture(37, "TQ2_0"),
    "mxfp4": Mixture(38, "MXFP4"),  # experts only; all other matrices of such a file are Q8_0
}


def mixture(kind: str) -> Mixture:
    """The file type named `kind`, in either case; raises OrreryError for an unknown one."""
    if kind.lower() not in MIXTURES:
        raise OrreryError(
            f"file type '{kind}' is not known; there are {', '.join(MIXTURES)}.{suggest(kind.lower(), MIXTURES)}"
        )
    return MIXTURES[kind.lower()]


def fallback(kind: str, n: int) -> str:
    """`kind`, or where rows of n numbers are not whole blocks of it, a format whose blocks they fill; at worst F16."""
    for option in (kind, NARROWER.get(kind, kind), "F16"):
        if n % FORMATS[option].block == 0:
            return option
    raise AssertionError("F16 blocks are one number")


def _apply(rules: Sequence[Rule], place: Place, base: str) -> str:
    return next((kind for kind, where in rules if where(place)), base)
