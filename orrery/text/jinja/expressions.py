"""Expressions: each node of the syntax tree becomes a function of a frame that gives its value."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from jinja2 import nodes

from orrery.kit.errors import OrreryError
from orrery.text.jinja.frame import Closure, Frame
from orrery.text.jinja.values import Undefined

HELD = "\0held"  # the text that a filter block or `set` block filters
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}


def expression(node: nodes.Node | None) -> Closure:
    """The function that evaluates a node.

    Raises:
        OrreryError: a node that no chat template has.
    """
    if node is None:
        return lambda f: None
    for kind in type(node).__mro__:
        if kind in _MAKERS:
            return _MAKERS[kind](node)
    raise OrreryError(
        f"the chat template has a {type(node).__name__} in line {node.lineno}, which is not supported"
    )


def _name(node: nodes.Name) -> Closure:
    name = node.name
    return lambda f: f.find(name)


def _constant(node: nodes.Const) -> Closure:
    value = node.value
    return lambda f: value


def _tuple(node: nodes.Tuple) -> Closure:
    items = [expression(item) for item in node.items]
    return lambda f: tuple([item(f) for item in items])


def _list(node: nodes.List) -> Closure:
    items = [expression(item) for item in node.items]
    return lambda f: [item(f) for item in items]


def _dict(node: nodes.Dict) -> Closure:
    pairs = [(expression(pair.key), expression(pair.value)) for pair in node.items]

    def make(f: Frame) -> dict[Any, Any]:
        table = {}
        for key, value in pairs:
            name = key(f)
            f.run.weigh(name)
            table[name] = value(f)
        return table

    return make


def _choice(node: nodes.CondExpr) -> Closure:
    test, yes = expression(node.test), expression(node.expr1)
    missing = Undefined(f"the inline if-expression in line {node.lineno} has no else")
    no = expression(node.expr2) if node.expr2 is not None else lambda f: missing
    return lambda f: yes(f) if test(f) else no(f)


def _and(node: nodes.And) -> Closure:
    left, right = expression(node.left), expression(node.right)
    return lambda f: left(f) and right(f)


def _or(node: nodes.Or) -> Closure:
    left, right = expression(node.left), expression(node.right)
    return lambda f: left(f) or right(f)


def _not(node: nodes.Not) -> Closure:
    value = expression(node.node)
    return lambda f: not value(f)


def _concat(node: nodes.Concat) -> Closure:
    parts = [expression(part) for part in node.nodes]
    return lambda f: f.run.join([part(f) for part in parts])


def _binary(node: Any, how: Callable[[Any, Any, Any], Any]) -> Closure:
    left, right = expression(node.left), expression(node.right)
    return lambda f: how(f.run, left(f), right(f))


def _unary(node: Any, how: Callable[[Any], Any]) -> Closure:
    value = expression(node.node)
    return lambda f: how(value(f))


def _compare(node: nodes.Compare) -> Closure:
    first = expression(node.expr)
    rest = [(op.op, expression(op.expr)) for op in node.ops]

    def chain(f: Frame) -> Any:
        a, result = first(f), True
        for op, value in rest:
            b = value(f)
            if op in ("in", "notin"):
                result = f.run.contains(b, a) == (op == "in")
            else:
                result = f.run.compare(_COMPARE[op], a, b)
            if not result:
                break
            a = b
        return result

    return chain


def _attribute(node: nodes.Getattr) -> Closure:
    value, name = expression(node.node), node.attr
    return lambda f: f.run.attribute(value(f), name)


def _item(node: nodes.Getitem) -> Closure:
    value = expression(node.node)
    if isinstance(node.arg, nodes.Slice):
        start, stop, step = (expression(part) for part in (node.arg.start, node.arg.stop, node.arg.step))
        return lambda f: f.run.slice(value(f), slice(start(f), stop(f), step(f)))
    key = expression(node.arg)
    return lambda f: f.run.item(value(f), key(f))


def _arguments(node: Any) -> Callable[[Frame], tuple[tuple[Any, ...], dict[str, Any]]]:
    args = [expression(arg) for arg in node.args]
    kwargs = [(keyword.key, expression(keyword.value)) for keyword in node.kwargs]
    if node.dyn_args is None and node.dyn_kwargs is None:
        return lambda f: (tuple([arg(f) for arg in args]), {key: value(f) for key, value in kwargs})
    more, table = expression(node.dyn_args), expression(node.dyn_kwargs)

    def gather(f: Frame) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rest, named = more(f), table(f)
        return (
            (*(arg(f) for arg in args), *(f.run.iterate(rest) if rest is not None else ())),
            {key: value(f) for key, value in kwargs} | dict(named or {}),
        )

    return gather


def _call(node: nodes.Call) -> Closure:
    function, arguments = expression(node.node), _arguments(node)

    def call(f: Frame) -> Any:
        target = function(f)
        args, kwargs = arguments(f)
        return f.run.call(target, args, kwargs)

    return call


def _filter(node: nodes.Filter) -> Closure:
    name, arguments = node.name, _arguments(node)
    value = expression(node.node) if node.node is not None else lambda f: f.find(HELD)
    return lambda f: f.run.filter(name, value(f), *arguments(f))


def _test(node: nodes.Test) -> Closure:
    name, value, arguments = node.name, expression(node.node), _arguments(node)
    return lambda f: f.run.test(name, value(f), *arguments(f))


_MAKERS: dict[type, Callable[[Any], Closure]] = {
    nodes.Name: _name,
    nodes.Const: _constant,
    nodes.Tuple: _tuple,
    nodes.List: _list,
    nodes.Dict: _dict,
    nodes.CondExpr: _choice,
    nodes.And: _and,
    nodes.Or: _or,
    nodes.Not: _not,
    nodes.Concat: _concat,
    nodes.Add: lambda node: _binary(node, lambda run, a, b: run.add(a, b)),
    nodes.Mul: lambda node: _binary(node, lambda run, a, b: run.multiply(a, b)),
    nodes.Mod: lambda node: _binary(node, lambda run, a, b: run.modulo(a, b)),
    nodes.Pow: lambda node: _binary(node, lambda run, a, b: run.power(a, b)),
    nodes.Sub: lambda node: _binary(node, lambda run, a, b: a - b),
    nodes.Div: lambda node: _binary(node, lambda run, a, b: a / b),
    nodes.FloorDiv: lambda node: _binary(node, lambda run, a, b: a // b),
    nodes.Neg: lambda node: _unary(node, operator.neg),
    nodes.Pos: lambda node: _unary(node, operator.pos),
    nodes.Compare: _compare,
    nodes.Getattr: _attribute,
    nodes.Getitem: _item,
    nodes.Call: _call,
    nodes.Filter: _filter,
    nodes.Test: _test,
}
