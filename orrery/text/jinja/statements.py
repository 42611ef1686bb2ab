"""Statements: each node becomes a function of a frame that writes output; it gives BREAK or CONTINUE where a loop is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

from orrery.kit.errors import OrreryError
from orrery.text.jinja.expressions import HELD, expression
from orrery.text.jinja.frame import Closure, Frame, Macro
from orrery.text.jinja.marked import OWN, MarkedDict, flagged, template_mark
from orrery.text.jinja.values import Loop, Namespace

BREAK, CONTINUE = "break", "continue"
Assign = Callable[[Frame, Any], None]


def block(body: Sequence[nodes.Node]) -> Closure:
    """The function that runs statements one after the other."""
    steps = [(node.lineno, _statement(node)) for node in body]

    def run(f: Frame) -> str | None:
        state = f.run
        for line, step in steps:
            state.budget.tick()
            state.line = line
            if (signal := step(f)) is not None:
                return signal
        return None

    return run


def _statement(node: nodes.Node) -> Closure:
    if type(node) not in _MAKERS:
        raise OrreryError(
            f"the chat template has a {type(node).__name__} in line {node.lineno}, which is not supported"
        )
    return _MAKERS[type(node)](node)


def _output(node: nodes.Output) -> Closure:
    parts = [
        _literal(part.data) if isinstance(part, nodes.TemplateData) else expression(part)
        for part in node.nodes
    ]

    def write(f: Frame) -> None:
        for part in parts:
            f.run.emit(f.run.show(part(f)))

    return write


def _literal(text: str) -> Closure:
    return lambda f: text


def _if(node: nodes.If) -> Closure:
    branches = [(expression(node.test), block(node.body))]
    branches += [(expression(other.test), block(other.body)) for other in node.elif_]
    otherwise = block(node.else_)

    def choose(f: Frame) -> str | None:
        for test, body in branches:
            if test(f):
                return body(f)
        return otherwise(f)

    return choose


def _for(node: nodes.For) -> Closure:
    source, assign, body = expression(node.iter), _target(node.target), block(node.body)
    test = expression(node.test) if node.test is not None else None
    otherwise = block(node.else_)

    def wanted(f: Frame, item: Any) -> bool:
        inner = f.inner()
        assign(inner, item)
        return bool(test(inner))  # type: ignore[misc]

    def loop(f: Frame, value: Any, depth0: int) -> None:
        run, around = f.run, f.run.mark
        items = run.iterate(value)
        if test is not None:
            items = [item for item in items if wanted(f, item)]
        state = Loop(items, depth0, again(f) if node.recursive else None)
        run.loops += 1
        for state.index0, item in enumerate(items):
            run.budget.tick()
            run.mark = around
            inner = f.inner()
            inner.vars["loop"] = state
            assign(inner, item)
            if isinstance(item, MarkedDict) and item.turn >= 0:
                run.mark = template_mark(item.turn)
            if body(inner) == BREAK:
                break
        run.mark = around
        run.loops -= 1
        if not items:
            otherwise(f.inner())

    def again(f: Frame) -> Callable[[Any, int], str]:
        return lambda value, depth0: f.run.capture(lambda: _deeper(f, loop, value, depth0))[0]

    return lambda f: loop(f, source(f), 0)


def _deeper(f: Frame, loop: Callable[[Frame, Any, int], None], value: Any, depth0: int) -> None:
    if depth0 > f.run.budget.limits.calls:
        raise OrreryError("the chat template's recursive loop goes too deep; do not use it")
    loop(f, value, depth0)


def _target(node: nodes.Node) -> Assign:
    """What assigns to a name, to a tuple of names, or to an entry of a namespace."""
    match node:
        case nodes.Tuple():
            targets = [_target(item) for item in node.items]

            def unpack(f: Frame, value: Any) -> None:
                values = f.run.iterate(value)
                if len(values) != len(targets):
                    raise ValueError(f"{len(targets)} values are needed, there are {len(values)}")
                for target, item in zip(targets, values, strict=True):
                    target(f, item)

            return unpack
        case nodes.NSRef():

            def store(f: Frame, value: Any) -> None:
                namespace = f.find(node.name)
                if not isinstance(namespace, Namespace):
                    raise TypeError(f"cannot assign attribute on '{node.name}', which is no namespace")
                namespace[node.attr] = value

            return store
        case nodes.Name():
            return lambda f, value: f.vars.__setitem__(node.name, value)
    raise OrreryError(f"the chat template assigns to something that is no name in line {node.lineno}")


def _assign(node: nodes.Assign) -> Closure:
    value, assign = expression(node.node), _target(node.target)

    def run(f: Frame) -> None:
        item = value(f)
        assign(f, item)
        if f.run.loops and f.run.mark == OWN and isinstance(item, MarkedDict) and item.turn >= 0:
            f.run.mark = template_mark(item.turn)  # a loop over indices that takes its message first

    return run


def _assign_block(node: nodes.AssignBlock) -> Closure:
    body, assign = block(node.body), _target(node.target)
    change = expression(node.filter) if node.filter is not None else None

    def run(f: Frame) -> None:
        inner = f.inner()
        text, _ = f.run.capture(lambda: body(inner))
        inner.vars[HELD] = text
        assign(f, text if change is None else change(inner))

    return run


def _filter_block(node: nodes.FilterBlock) -> Closure:
    body, change = block(node.body), expression(node.filter)

    def run(f: Frame) -> None:
        inner = f.inner()
        inner.vars[HELD], _ = f.run.capture(lambda: body(inner))
        f.run.emit(f.run.show(change(inner)))

    return run


def _with(node: nodes.With) -> Closure:
    pairs = [
        (_target(target), expression(value)) for target, value in zip(node.targets, node.values, strict=True)
    ]
    body = block(node.body)

    def run(f: Frame) -> str | None:
        inner = f.inner()
        for assign, value in pairs:
            assign(inner, value(f))
        return body(inner)

    return run


def _scope(node: nodes.Scope) -> Closure:
    """A {% generation %} block."""
    body = block(node.body)

    def run(f: Frame) -> None:
        inner = f.inner()
        text, _ = f.run.capture(lambda: body(inner))
        f.run.emit(flagged(text, f.run.mark))

    return run


def _macro_maker(node: Any, name: str) -> Callable[[Frame], Macro]:
    params = [arg.name for arg in node.args]
    defaults = [expression(default) for default in node.defaults]
    used = {found.name for statement in node.body for found in _names(statement)}
    body, uses = block(node.body), frozenset(used & {"caller", "kwargs", "varargs"})
    return lambda f: Macro(name, params, defaults, body, uses, f)


def _names(node: nodes.Node) -> list[nodes.Name]:
    return [*node.find_all(nodes.Name), *([node] if isinstance(node, nodes.Name) else [])]


def _macro(node: nodes.Macro) -> Closure:
    make = _macro_maker(node, node.name)
    return lambda f: f.vars.__setitem__(node.name, make(f))


def _call_block(node: nodes.CallBlock) -> Closure:
    make, call = _macro_maker(node, "caller"), node.call
    function, args = expression(call.node), [expression(arg) for arg in call.args]
    kwargs = [(keyword.key, expression(keyword.value)) for keyword in call.kwargs]

    def run(f: Frame) -> None:
        named = {key: value(f) for key, value in kwargs} | {"caller": make(f)}
        f.run.emit(f.run.show(f.run.call(function(f), tuple([arg(f) for arg in args]), named)))

    return run


def _named_block(node: nodes.Block) -> Closure:
    body = block(node.body)

    def run(f: Frame) -> str | None:
        while not node.scoped and f.parent is not None and f.parent.parent is not None:
            f = f.parent  # sees the template's own variables, not those of loops around it
        return body(f.inner())

    return run


def _autoescape(node: nodes.ScopedEvalContextModifier) -> Closure:
    if any(getattr(option.value, "value", True) for option in node.options):
        raise OrreryError(
            f"the chat template turns HTML escapes on in line {node.lineno}, which is not supported"
        )
    return block(node.body)


def _expression_statement(node: nodes.ExprStmt) -> Closure:
    value = expression(node.node)

    def run(f: Frame) -> None:
        value(f)

    return run


_MAKERS: dict[type, Callable[[Any], Closure]] = {
    nodes.Output: _output,
    nodes.If: _if,
    nodes.For: _for,
    nodes.Assign: _assign,
    nodes.AssignBlock: _assign_block,
    nodes.FilterBlock: _filter_block,
    nodes.With: _with,
    nodes.Scope: _scope,
    nodes.Macro: _macro,
    nodes.CallBlock: _call_block,
    nodes.Block: _named_block,
    nodes.ScopedEvalContextModifier: _autoescape,
    nodes.ExprStmt: _expression_statement,
    nodes.Break: lambda node: lambda f: BREAK,
    nodes.Continue: lambda node: lambda f: CONTINUE,
}
