"""Conversations that a file holds as one text, with a marker before every turn, as the first public preference sets wrote them.

    \n\nHuman: ...\n\nAssistant: ...\n\nHuman: ...

Bai et al. 2022, arXiv:2204.05862. The marker before the first turn may be missing.
"""

from __future__ import annotations

import re
from typing import Any

TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    """Whether a text is a conversation: it begins with a marker, or holds an answer and a question after it."""
    names = TURN.findall(text)
    begins = text.lstrip().startswith(("Human:", "Assistant:"))
    return (begins and "Assistant" in names) or (
        "Assistant" in names[: max(0, len(names) - 1)] and names[-1] == "Human"
    )


def turns_of(text: str) -> tuple[dict[str, Any], ...]:
    """The turns, texts without the spaces around them."""
    first, *rest = TURN.split(text)
    turns = [{"role": "user", "content": first.strip()}] if first.strip() else []
    turns += [
        {"role": ROLES[name], "content": said.strip()}
        for name, said in zip(rest[::2], rest[1::2], strict=True)
    ]
    return tuple(turns)


def asked_of(text: str) -> tuple[dict[str, Any], ...]:
    """The turns of a prompt: one that ends with the assistant's marker ends before it."""
    turns = turns_of(text)
    return turns[:-1] if turns and turns[-1] == {"role": "assistant", "content": ""} else turns
