from __future__ import annotations

import linecache

import pytest

from orrery.glossary.symbols import PACKAGE, locate, resolve
from orrery.kit.errors import OrreryError


@pytest.mark.parametrize(
    ("symbol", "starts"),
    [
        ("orrery.kit.errors:OrreryError", "class OrreryError"),
        ("orrery.kit.errors:suggest", "def suggest"),
        ("orrery.kit.lm:Sampling.top_k", "    top_k: int"),
        ("orrery.kit.lm:Score.perplexity", "    def perplexity"),
        ("orrery.kit.log:console", "console ="),
        ("orrery.model.attention:Attention.q_proj", "        self.q_proj ="),
        ("orrery.glossary:Exhibit", "class Exhibit"),
    ],
)
def test_file_and_line_are_those_of_the_definition(symbol: str, starts: str) -> None:
    place = locate(symbol)
    assert linecache.getline(str(PACKAGE.parent / place.file), place.line).startswith(starts)


def test_a_module_is_its_first_line() -> None:
    assert locate("orrery.kit.errors").line == 1
    assert locate("orrery.kit").file == "orrery/kit/__init__.py"


def test_resolve_gives_the_object() -> None:
    assert resolve("orrery.kit.errors:OrreryError") is OrreryError
    from orrery.model.attention import Attention

    assert resolve("orrery.model.attention:Attention.q_proj") is Attention  # only instances have it


@pytest.mark.parametrize(
    "symbol",
    ["orrery.kit.nothing", "orrery.kit.errors:Nothing", "orrery.kit.lm:Sampling.nothing", "json:loads"],
)
def test_what_is_not_there_raises(symbol: str) -> None:
    with pytest.raises(OrreryError, match="does not resolve"):
        locate(symbol)
