"""The two relations of IFEval's counting instructions."""

from __future__ import annotations

from orrery.kit.errors import OrreryError


def holds(count: int, relation: str, wanted: int) -> bool:
    """Whether count stands in the relation, "at least" or "less than", to what is wanted.

    Raises:
        OrreryError: another relation.
    """
    if relation == "at least":
        return count >= wanted
    if relation == "less than":
        return count < wanted
    raise OrreryError(f"an instruction says '{relation}'; a relation is 'at least' or 'less than'")
