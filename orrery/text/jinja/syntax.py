"""From a template's source to its syntax tree, by jinja2's own parser; what is too large, too deep or reaches outside is refused."""

from __future__ import annotations

from functools import cache

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from orrery.kit.errors import OrreryError
from orrery.text.jinja.limits import Limits

OUTWARD = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_OPEN, _CLOSE = {"(", "[", "{"}, {")", "]", "}"}
_CHAINS = {"not", "-", "+", "**", "|", ".", "if", "else", "~", "and", "or", "is"}


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant writes; in the tree it is a Scope."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a node."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


@cache
def _environment() -> jinja2.Environment:
    """Used to read, never to run."""
    return jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[Generation, "jinja2.ext.loopcontrols"],
        optimized=False,
    )


def parse(source: str, limits: Limits) -> nodes.Template:
    """The syntax tree of a template.

    Raises:
        OrreryError: a syntax error (with its line), a template beyond the limits, one that includes other files, or one that
            names Python's internals.
    """
    if len(source) > limits.source:
        raise OrreryError(f"the chat template has {len(source)} characters; {limits.source} are allowed")
    try:
        _check_tokens(source, limits)
        tree = _environment().parse(source)
        _check_tree(tree, limits)
    except jinja2.TemplateSyntaxError as error:
        raise OrreryError(f"the chat template has an error in line {error.lineno}: {error.message}") from None
    except OrreryError:
        raise
    except (RecursionError, ValueError, OverflowError, MemoryError, AssertionError) as error:
        raise OrreryError(
            f"the chat template cannot be read: {type(error).__name__}: {str(error)[:100]}"
        ) from None
    return tree


def _check_tokens(source: str, limits: Limits) -> None:
    """Count tokens, brackets within each other, and operators in one expression, before a parser recurses into them."""
    nested = chained = 0
    for count, (line, kind, text) in enumerate(_environment().lex(source)):
        if count > limits.tokens:
            raise OrreryError(f"the chat template has more than {limits.tokens} words and signs")
        if kind.endswith("_end"):
            nested = chained = 0
        elif kind == "operator" and text in _OPEN:
            nested += 1
        elif kind == "operator" and text in _CLOSE:
            nested -= 1
        elif text in _CHAINS:
            chained += 1
        if nested > limits.nesting or chained > 16 * limits.nesting:
            raise OrreryError(f"the chat template nests its expressions too deeply in line {line}")


def _check_tree(tree: nodes.Template, limits: Limits) -> None:
    todo: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        if depth > limits.depth:
            raise OrreryError(f"the chat template nests its expressions too deeply in line {node.lineno}")
        if isinstance(node, OUTWARD):
            raise OrreryError(
                f"the chat template reads another template in line {node.lineno}; a chat template is one file"
            )
        name = (
            node.attr
            if isinstance(node, nodes.Getattr)
            else getattr(getattr(node, "arg", None), "value", None)
        )
        if isinstance(name, str) and name.startswith("__"):
            raise OrreryError(
                f"the chat template reaches for Python's internals ({name!r} in line {node.lineno}): do not use it"
            )
        todo += [(child, depth + 1) for child in node.iter_child_nodes()]
