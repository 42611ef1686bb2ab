"""What a template can hold besides JSON values: what is missing, namespaces, methods, macros, loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from orrery.kit.errors import OrreryError


class Undefined:
    """A name, key or item that is not there: it prints as nothing, is false, and everything else done to it is an error."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return type(other) is Undefined

    def __hash__(self) -> int:
        return hash(Undefined)

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        return "Undefined"

    def fail(self) -> OrreryError:
        """The error of using it."""
        return OrreryError(f"the chat template cannot render this conversation: {self.why}")


class Namespace:
    """`namespace(a=1)`: a table whose entries `{% set ns.a = 2 %}` changes from inside a loop."""

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries: dict[str, Any] = {}
        for name, value in entries.items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise OrreryError(
                f"the chat template stores the private name {name!r} in a namespace; do not use it"
            )
        self.entries[name] = value


@dataclass(frozen=True)
class Method:
    """A method of a value, not called yet: `text.split`. `run` takes (rendering, value, arguments...)."""

    value: Any
    run: Callable[..., Any]


@dataclass(frozen=True)
class Function:
    """A global function; `run` takes (rendering, arguments...)."""

    run: Callable[..., Any]


class Group(tuple[Any, Any]):
    """What `groupby` gives: (grouper, list)."""

    __slots__ = ()


@dataclass
class Cycler:
    """`cycler('a', 'b')`: `.next()` gives them in turn."""

    items: tuple[Any, ...]
    at: int = 0


@dataclass
class Joiner:
    """`joiner(', ')`: nothing the first time it is called, the separator from then on."""

    separator: Any
    used: bool = False


@dataclass
class Loop:
    """The variable `loop` of a for statement."""

    items: list[Any]
    depth0: int
    again: Callable[[Any, int], Any] | None
    """Renders the loop's body over other items, where the loop is recursive."""
    index0: int = 0
    changed: list[Any] | None = None

    def entry(self, name: str) -> Any:
        """An attribute: index, first, last, previtem ..."""
        at, count = self.index0, len(self.items)
        match name:
            case "index":
                return at + 1
            case "index0":
                return at
            case "revindex":
                return count - at
            case "revindex0":
                return count - at - 1
            case "first":
                return at == 0
            case "last":
                return at == count - 1
            case "length":
                return count
            case "depth":
                return self.depth0 + 1
            case "depth0":
                return self.depth0
            case "previtem":
                return self.items[at - 1] if at else Undefined("there is no previous item")
            case "nextitem":
                return self.items[at + 1] if at + 1 < count else Undefined("there is no next item")
            case "cycle":
                return Method(self, lambda _, loop, *items: items[loop.index0 % len(items)])
            case "changed":
                return Method(self, lambda run, loop, *items: loop.has_changed(run.weighed(list(items))))
        return Undefined(f"'loop' has no attribute {name!r}")

    def has_changed(self, items: list[Any]) -> bool:
        """Whether the values differ from those of the last call."""
        before, self.changed = self.changed, items
        return before is None or before != items
