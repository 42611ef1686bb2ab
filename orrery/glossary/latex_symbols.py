"""Tables of the LaTeX converter: what each command prints, and the small letters Unicode has."""

from __future__ import annotations

from collections.abc import Sequence

_GREEK = """
alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π
rho ρ sigma σ tau τ upsilon υ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ
Phi Φ Psi Ψ Omega Ω
"""
_NAMES: Sequence[str] = _GREEK.split()

SYMBOLS: dict[str, str] = {
    **dict(zip(_NAMES[::2], _NAMES[1::2], strict=True)),
    "infty": "∞", "partial": "∂", "nabla": "∇", "ell": "ℓ", "ldots": "…", "dots": "…", "cdots": "⋯", "top": "⊤",
    "prime": "′", "emptyset": "∅", "forall": "∀", "exists": "∃", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈",
    "rceil": "⌉", "langle": "⟨", "rangle": "⟩", "lvert": "|", "rvert": "|", "|": "‖", "{": "{", "}": "}", "%": "%",
    "_": "_", "#": "#", "&": "&", "$": "$", "star": "⋆", "dagger": "†", "angle": "∠", "square": "□",
}  # fmt: skip

OPERATORS: dict[str, str] = {
    "cdot": "·", "times": "×", "div": "÷", "pm": "±", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠",
    "neq": "≠", "approx": "≈", "equiv": "≡", "sim": "∼", "propto": "∝", "in": "∈", "notin": "∉", "subset": "⊂",
    "cup": "∪", "cap": "∩", "leftarrow": "←", "gets": "←", "to": "→", "rightarrow": "→", "mapsto": "↦",
    "Rightarrow": "⇒", "Leftrightarrow": "⇔", "odot": "⊙", "otimes": "⊗", "oplus": "⊕", "circ": "∘", "mid": "|",
    "parallel": "∥", "ll": "≪", "gg": "≫", "setminus": "∖", "wedge": "∧", "vee": "∨", "colon": ":", "succeq": "⪰",
}  # fmt: skip

FUNCTIONS = frozenset(
    ("log", "ln", "exp", "sin", "cos", "tan", "tanh", "det", "tr", "rank", "dim", "sign", "softmax", "Var")
)

BIG: dict[str, str] = {
    "sum": "∑", "prod": "∏", "int": "∫", "max": "max", "min": "min", "lim": "lim", "sup": "sup", "inf": "inf",
    "argmax": "argmax", "argmin": "argmin", "bigcup": "⋃",
}  # fmt: skip

SPACES: dict[str, str] = {",": " ", ";": " ", ":": " ", " ": " ", "!": "", "quad": "  ", "qquad": "    "}

ACCENTS: dict[str, str] = {
    "hat": "\u0302",
    "bar": "\u0304",
    "tilde": "\u0303",
    "dot": "\u0307",
    "vec": "\u20d7",
}

ALPHABETS: dict[str, dict[str, str]] = {
    "mathbb": dict(zip("CNPQRZE1", "ℂℕℙℚℝℤ𝔼𝟙", strict=True)),
    "mathcal": dict(zip("ABDFHLMNOPRSTUV", "𝒜ℬ𝒟ℱℋℒℳ𝒩𝒪𝒫ℛ𝒮𝒯𝒰𝒱", strict=True)),
}

SUPERSCRIPTS: dict[str, str] = dict(
    zip(
        "0123456789+−=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVWαβγδεθ⊤′∗⋆†",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂᵅᵝᵞᵟᵋᶿᵀ′∗⋆†",
        strict=True,
    )
)

SUBSCRIPTS: dict[str, str] = dict(
    zip("0123456789+−=()aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ", strict=True)
)
