"""Conversation trees, as volunteers wrote and ranked them: the path through the best replies becomes a dialogue.

At each node the reply with the lowest rank is taken (0 is the best; replies that nobody ranked come last, in their order), and the
path ends at the last answer of the assistant. Koepf et al. 2023, OpenAssistant Conversations, arXiv:2304.07327.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.tune.dialogue import Dialogue, kind_of, role_of, text_of

NAMES = {"prompter": "user", "user": "user", "assistant": "assistant", "system": "system"}
LONGEST = 1000


def dialogue_of_tree(root: Any, where: str) -> Dialogue | None:
    """The best path; None where nobody answered.

    Raises:
        OrreryError: a node without role or text; names the place.
    """
    messages: list[dict[str, Any]] = []
    node, field = root, "prompt"
    while node is not None and len(messages) < LONGEST:
        if not isinstance(node, Mapping) or "text" not in node:
            raise OrreryError(
                f"{where}: '{field}' is {kind_of(node)} without a text; a node has role, text and replies"
            )
        role = role_of(node.get("role", "prompter"), NAMES, f"{where}: '{field}.role'")
        messages.append({"role": role, "content": text_of(node["text"], f"{where}: '{field}.text'")})
        node, at = best_reply(node.get("replies"))
        field = f"{field}.replies[{at}]"
    last = max((turn for turn, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    return None if last < 0 else Dialogue(tuple(messages[: last + 1]), where)


def best_reply(replies: Any) -> tuple[Any, int]:
    """The reply that people ranked best, and its place in the list; (None, -1) where there is none."""
    kept = [
        (reply["rank"] if isinstance(reply.get("rank"), int) else LONGEST, at, reply)
        for at, reply in enumerate(replies if isinstance(replies, list) else [])
        if isinstance(reply, Mapping) and reply.get("review_result") is not False and not reply.get("deleted")
    ]
    if not kept:
        return None, -1
    _, at, reply = min(kept, key=lambda item: item[:2])
    return reply, at
