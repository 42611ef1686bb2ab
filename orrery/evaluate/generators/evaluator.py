"""The value of a small Python expression, computed node by node: numbers, strings, lists, a few functions and methods, nothing else.

Every size is bounded, so that an expression from anywhere is safe and quick; what is not listed here is refused, not run.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from typing import Any

from orrery.kit.errors import OrreryError

MAX_CHARACTERS = 2000
MAX_SIZE = 1000
MAX_NUMBER = 10**18

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Div: operator.truediv,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len, "abs": abs, "max": max, "min": min, "sum": sum, "sorted": sorted, "list": list, "str": str, "int": int, "range": range,
}  # fmt: skip
_TEXT_METHODS = "upper lower title capitalize swapcase count find index replace startswith endswith split join strip isupper islower"
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    list: frozenset(("count", "index")),
    dict: frozenset(("get", "keys", "values")),
}


def evaluate(expression: str) -> Any:
    """The value of the expression.

    Raises:
        OrreryError: it cannot be parsed, uses something not listed, fails, or grows beyond the bounds.
    """
    if len(expression) > MAX_CHARACTERS:
        raise OrreryError(
            f"the expression has {len(expression)} characters; at most {MAX_CHARACTERS} are evaluated"
        )
    try:
        return _value(ast.parse(expression, mode="eval").body, {})
    except OrreryError:
        raise
    except (
        SyntaxError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        RecursionError,
        MemoryError,
    ) as error:
        raise OrreryError(f"the expression {expression[:80]!r} has no value: {error}") from None


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    match node:
        case ast.Constant(value=int() | float() | str() | bool() | None as value):
            return _bounded(value)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, names)
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(op, _value(left, names), _value(right, names))
        case ast.BoolOp(op=op, values=values):
            return _boolean(isinstance(op, ast.And), values, names)
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _compared(_value(left, names), ops, [_value(other, names) for other in others])
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, names) else orelse, names)
        case ast.List(elts=items):
            return [_value(item, names) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, names) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {
                _value(k, names): _value(v, names) for k, v in zip(keys, values, strict=True) if k is not None
            }
        case ast.Subscript(value=value, slice=ast.Slice(lower=low, upper=high, step=step)):
            bounds = [None if part is None else _value(part, names) for part in (low, high, step)]
            return _value(value, names)[slice(*bounds)]
        case ast.Subscript(value=value, slice=index):
            return _value(value, names)[_value(index, names)]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _called(_FUNCTIONS[name], [_value(arg, names) for arg in args])
        case ast.Call(func=ast.Attribute(value=owner, attr=name), args=args, keywords=[]):
            held = _value(owner, names)
            if name in _METHODS.get(type(held), ()):
                return _called(getattr(held, name), [_value(arg, names) for arg in args])
        case ast.ListComp(
            elt=element, generators=[ast.comprehension(target=ast.Name(id=name), iter=source, ifs=tests)]
        ):
            return _looped(element, name, _value(source, names), tests, names)
    raise OrreryError(f"{ast.unparse(node)[:80]!r} is not among what is evaluated here")


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Mult):
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        times = [side for side in (left, right) if isinstance(side, int)]
        if sizes and times and sizes[0] * max(times) > MAX_SIZE:
            raise OrreryError("a repetition is beyond the bounds of this evaluator")
    if isinstance(op, ast.Mod) and isinstance(left, str):
        raise OrreryError("text formatting is not among what is evaluated here")
    function = _BINARY.get(type(op))
    if function is None:
        raise OrreryError(f"the operator {type(op).__name__} is not among what is evaluated here")
    return _bounded(function(left, right))


def _boolean(conjunction: bool, values: list[ast.expr], names: dict[str, Any]) -> Any:
    value: Any = conjunction
    for node in values:
        value = _value(node, names)
        if bool(value) != conjunction:
            break
    return value


def _compared(left: Any, ops: list[ast.cmpop], others: list[Any]) -> bool:
    for op, right in zip(ops, others, strict=True):
        if type(op) not in _COMPARE:
            raise OrreryError("`is` is not among what is evaluated here")
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def _called(function: Callable[..., Any], args: list[Any]) -> Any:
    value = function(*map(_bounded, args))
    return _bounded(list(value) if isinstance(value, type({}.keys()) | type({}.values())) else value)


def _looped(
    element: ast.expr, name: str, source: Iterable[Any], tests: list[ast.expr], names: dict[str, Any]
) -> list[Any]:
    made = []
    for item in _bounded(source):
        inner = {**names, name: item}
        if all(_value(test, inner) for test in tests):
            made.append(_value(element, inner))
    return made


def _bounded(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise OrreryError("a number is beyond the bounds of this evaluator")
    if isinstance(value, str | list | tuple | set | range | dict) and len(value) > MAX_SIZE:
        raise OrreryError("a value is beyond the bounds of this evaluator")
    return value
