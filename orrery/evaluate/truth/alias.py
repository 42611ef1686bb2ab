"""An answer against the gold in all its spellings.

Both sides are normalised: small letters, accents and punctuation away, articles away, thousands without commas. An answer matches when it
is a gold spelling (`same`), or when it holds one as whole words and does not deny it (`tells`).

Source: Rajpurkar et al. 2016, arXiv:1606.05250 (normalisation); Joshi et al. 2017, arXiv:1705.03551 (aliases).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_ARTICLES = frozenset(("a", "an", "the"))
_DENIALS = frozenset(["not", "never", "no", "neither", "nor", "isnt", "wasnt", "arent", "werent"])


def words(text: str) -> list[str]:
    """The normalised words of a text: "The U.S. had 1,000 cafés" -> us had 1000 cafes."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    plain = re.sub(r"(?<!\w)((?:\w\.){2,})", lambda m: m[1].replace(".", ""), plain)  # u.s. -> us
    plain = re.sub(r"(?<=\w)['’](?=\w)", "", plain)
    plain = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w\s.]|_", " ", plain)
    return [word for word in plain.split() if word not in _ARTICLES]


def same(answer: str, golds: Iterable[str]) -> bool:
    """Whether the answer is one of the spellings, once both are normalised."""
    found = words(answer)
    return any(found == words(gold) for gold in golds)


def tells(answer: str, golds: Iterable[str]) -> bool:
    """Whether one of the spellings stands in the answer as whole words, with no denial in the two words before."""
    found = words(answer)
    for gold in golds:
        wanted = words(gold)
        for i in range(len(found) - len(wanted) + 1):
            if (
                wanted
                and found[i : i + len(wanted)] == wanted
                and not _DENIALS & set(found[max(0, i - 2) : i])
            ):
                return True
    return False
