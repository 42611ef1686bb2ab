"""Recipes: overrides, validation, and errors that name the fix."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from orrery.kit.config import config, digest, load, override, resolve, to_dict
from orrery.kit.errors import OrreryError


@config
class Sgd:
    kind: Literal["sgd"] = "sgd"
    lr: float = 0.1


@config
class Adam:
    kind: Literal["adam"] = "adam"
    lr: float = 1e-3
    beta: float = 0.9


@config
class Recipe:
    optim: Annotated[Sgd | Adam, Field(discriminator="kind")] = Sgd()
    steps: int = 3
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise OrreryError("steps must be 0 or more")


def test_defaults_and_unions_resolve() -> None:
    assert resolve(Recipe, {}) == Recipe()
    assert resolve(Recipe, {"optim": {"kind": "adam", "lr": 1}}).optim == Adam(lr=1.0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"stepps": 1}, "unknown setting 'stepps'. Did you mean 'steps'?"),
        ({"optim": {"kind": "adam", "betta": 1}}, "unknown setting 'optim.betta'. Did you mean 'beta'?"),
        ({"optim": {"kind": "adamm"}}, "Did you mean 'adam'?"),
        ({"optim": {"lr": 1}}, "'optim' needs a 'kind'"),
        ({"steps": "many"}, "'steps': input should be a valid integer"),
        ({"steps": -1}, "steps must be 0 or more"),
    ],
)
def test_mistakes_are_named_with_their_fix(data: dict[str, object], message: str) -> None:
    with pytest.raises(OrreryError) as error:
        resolve(Recipe, data, where="recipe.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("recipe.yaml: ")


def test_overrides_reach_into_dicts_and_lists_by_name() -> None:
    data = {"stages": [{"name": "train", "lr": 1}, {"kind": "evaluate"}]}
    new = override(
        data, ["stages.train.lr=3e-4", "stages.evaluate.on=[a, b]", "stages.0.new.deep=true", "out=x"]
    )
    assert new == {
        "stages": [
            {"name": "train", "lr": 3e-4, "new": {"deep": True}},
            {"kind": "evaluate", "on": ["a", "b"]},
        ],
        "out": "x",
    }
    assert data["stages"][0]["lr"] == 1  # the original is not touched


@pytest.mark.parametrize("text", ["novalue", "=3", "stages.nowhere.lr=1", "stages.train.lr.deeper=1"])
def test_overrides_that_cannot_be_applied(text: str) -> None:
    with pytest.raises(OrreryError):
        override({"stages": [{"name": "train", "lr": 1}]}, [text])


def test_yaml_numbers_are_those_people_write(tmp_path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("optim: {kind: adam, lr: 3e-4}\nsteps: 7\nnames: [a, 1e5x]\n")
    assert load(Recipe, path) == Recipe(optim=Adam(lr=3e-4), steps=7, names=("a", "1e5x"))
    assert load(Recipe, path, ["steps=8"]).steps == 8


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2\n", ""])
def test_files_that_are_no_recipe(tmp_path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(OrreryError, match=r"bad\.yaml"):
        load(Recipe, path)


def test_a_missing_recipe_suggests_its_neighbour(tmp_path) -> None:
    (tmp_path / "quickstart.yaml").write_text("{}")
    with pytest.raises(OrreryError, match=r"Did you mean 'quickstart\.yaml'"):
        load(Recipe, tmp_path / "quikstart.yaml")


def test_digest_depends_on_values_not_on_order() -> None:
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})
    assert digest(Recipe()) != digest(Recipe(steps=4))
    assert to_dict(Recipe())["optim"] == {"kind": "sgd", "lr": 0.1}
