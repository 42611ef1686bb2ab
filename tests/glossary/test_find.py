from __future__ import annotations

import pytest

from orrery.glossary.entries import index
from orrery.glossary.find import find, known_names, normal
from orrery.kit.errors import OrreryError


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ("gqa", "gqa"),
        ("GQA", "gqa"),
        ("Grouped-Query Attention", "gqa"),
        ("kv cache", "kv-cache"),
        ("KV-cache", "kv-cache"),
        ("heavy ball", "momentum"),
        ("optimizers", "optimizer"),
        ("layer norm", "layer-normalization"),
        ("layer", "layer"),
        ("mlp", "mlp"),
        ("Adam Optimizer", "adam"),
        ("rotary position embedding", "rope"),
    ],
)
def test_by_slug_name_alias_case_and_plural(words: str, slug: str) -> None:
    found = find(words)
    assert found.term.slug == slug
    assert found.note == ""


@pytest.mark.parametrize(
    ("words", "slug"), [("momentom", "momentum"), ("nestorov momentum", "nesterov"), ("softmx", "softmax")]
)
def test_a_misspelling_is_taken_for_the_nearest_and_says_so(words: str, slug: str) -> None:
    found = find(words)
    assert found.term.slug == slug
    assert words in found.note


def test_several_near_names_are_offered() -> None:
    with pytest.raises(OrreryError, match=r"Did you mean .*attention"):
        find("attention thing")


def test_nothing_near() -> None:
    with pytest.raises(OrreryError, match="--list"):
        find("zzzzqqqq")
    with pytest.raises(OrreryError, match="say which term"):
        find(" -- ")


def test_every_term_is_found_by_its_slug_and_its_name() -> None:
    for slug, term in index().items():
        assert find(slug).term.slug == slug
        assert normal(term.term) in known_names()
