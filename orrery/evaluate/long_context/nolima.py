"""Needles that share no word with their question: what is asked must be known, not matched.

"Ingrid's flat looks out on the Colosseum." answers "Who is a resident of Rome?" only for somebody who knows where the Colosseum
stands, and "Who is a resident of Italy?" for somebody who takes one step more. Every pair is checked: no content word of the
question, and no word of the same stem, is in the needle.

Source: Modarressi et al. 2025, arXiv:2502.05167 (NoLiMa). The pairs are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from orrery.evaluate.content_words import content_stems
from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.words import NAMES, draw
from orrery.kit.errors import OrreryError


@dataclass(frozen=True)
class Association:
    """A needle with a place for a name, and the same asked in one step and in two."""

    needle: str
    one_hop: str
    two_hop: str


ASSOCIATIONS = tuple(
    Association(*row)
    for row in (
        ("From the kitchen, {name} looks straight at the Colosseum.", "Who is a resident of Rome?", "Who is a resident of Italy?"),
        ("{name} jogs around the Eiffel Tower before breakfast.", "Who is a resident of Paris?", "Who is a resident of France?"),
        ("The flat that {name} rents is opposite the Brandenburg Gate.", "Who is a resident of Berlin?", "Who is a resident of Germany?"),
        ("{name} sells postcards below the Acropolis.", "Who works in Athens?", "Who works in Greece?"),
        ("Every Sunday {name} feeds pigeons at Trafalgar Square.", "Who spends time in London?", "Who spends time in England?"),
        ("{name} tunes the bells of the Kremlin.", "Who is employed in Moscow?", "Who is employed in Russia?"),
        ("Steak is something {name} has refused since childhood, along with fish.", "Who is a vegetarian?", "Who would decline a beef burger?"),
        ("After one glass of milk {name} suffers for hours.", "Who cannot digest lactose?", "Who should avoid cheese?"),
        ("Bread makes {name} ill, and so does pasta.", "Who cannot tolerate gluten?", "Who should avoid wheat?"),
        ("{name} was the first to sign up for the oboe lessons.", "Who learns a woodwind instrument?", "Who wants to play music?"),
        ("For a living {name} fills cavities and pulls molars.", "Who is a dentist?", "Who treats patients?"),
        ("All day long {name} kneads dough and shapes loaves.", "Who is a baker?", "Who has a job making food?"),
        ("{name} keeps a telescope on the roof and a list of comets.", "Who is interested in astronomy?", "Who is a hobby scientist?"),
        ("In winter {name} waxes the boards and heads for the slopes.", "Who goes skiing?", "Who likes sport in the snow?"),
        ("{name} translates letters from Lisbon without a dictionary.", "Who knows Portuguese?", "Who could chat with a Brazilian?"),
        ("{name} grew up where kangaroos cross the road.", "Who comes from Australia?", "Who was born in the southern hemisphere?"),
    )
)  # fmt: skip


def lexical_overlap(question: str, needle: str) -> set[str]:
    """Stems of content words that both have."""
    return content_stems(question) & content_stems(needle)


def nolima(filler: Filler, *, seed: int, index: int = 0, depth: float | None = 0.5, hops: int = 1) -> Item:
    """One needle about somebody with a rare name, asked for without one of its words.

    Raises:
        OrreryError: hops is not 1 or 2, or needle and question share a word.
    """
    if hops not in (1, 2):
        raise OrreryError(f"a question is one hop or two away from its needle, not {hops}")
    pair = ASSOCIATIONS[index % len(ASSOCIATIONS)]
    (name,) = draw(NAMES, 1, seed, "nolima", index)
    needle, question = pair.needle.format(name=name), pair.one_hop if hops == 1 else pair.two_hop
    if shared := lexical_overlap(question, needle):
        raise OrreryError(f"the question '{question}' gives its needle away by the word '{min(shared)}'")
    hay = filler.without(NAMES).from_seed(seed, index)
    place = 0.5 if depth is None else depth
    return Item(
        task="nolima" if hops == 1 else "nolima-2",
        index=index,
        context=lambda n: hay.context(n, [(place, needle)]),
        intro="Read the text below. A question about a person in it follows.",
        question=f"{question} Answer with the name alone.",
        lead="Answer: The name is",
        answers=((name,),),
        max_tokens=12,
        stop=(".", "\n"),
        pattern=f"(?i:{'|'.join(NAMES)})",
        tags={"depth": place, "hops": hops},
    )
