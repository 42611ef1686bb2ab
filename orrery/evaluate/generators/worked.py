"""An expression worked out step by step, innermost first: the reasoning that leads to a generated question's answer.

    steps('len("stone") + 3 * 2')      ['len("stone") = 5', '3 * 2 = 6', '5 + 6 = 11']

Every step is computed by `evaluator.evaluate`, so the reasoning is right by construction. Parts with names of their own (comprehensions,
functions with a key) are one step.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.generators.evaluator import evaluate

_WHOLE = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
_VALUES = (ast.Constant, ast.Name, ast.List, ast.Tuple, ast.Dict, ast.Attribute, ast.Slice, ast.keyword)
_SPELT = (str, int, float, bool, list, tuple, dict)


def steps(expression: str) -> list[str]:
    """One `part = value` a step; an expression that is a value already has none.

    Raises:
        OrreryError: as `evaluate`.
    """
    told: list[str] = []
    _Reduce(told).visit(ast.parse(expression, mode="eval").body)
    return told


def reasoned(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A generated row as a conversation whose answer is thought about first."""
    thought = "; ".join(steps(row["expression"]))
    answer = {"role": "assistant", "content": row["answer"], **({"reasoning": thought} if thought else {})}
    return [{"role": "user", "content": row["question"]}, answer]


class _Reduce(ast.NodeTransformer):
    """Replaces every operation by its value, children first, and notes it."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def visit(self, node: ast.AST) -> Any:
        if not isinstance(node, ast.expr | ast.Slice | ast.keyword):
            return node
        if not any(isinstance(inside, _WHOLE) for inside in ast.walk(node)):
            node = self.generic_visit(node)
        if isinstance(node, _VALUES) or _negative(node):
            return node
        value = evaluate(ast.unparse(node))
        if type(value) not in _SPELT:  # a range, say: it becomes part of the step around it
            return node
        self.told.append(_double(f"{ast.unparse(node)} = {value!r}"))
        return ast.parse(repr(value), mode="eval").body


def _negative(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
    )


def _double(text: str) -> str:
    """Double quotes, as questions have them."""
    return text if '"' in text else text.replace("'", '"')
