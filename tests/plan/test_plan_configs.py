"""Published config.json files: parameters counted from each of them alone, equal to what transformers counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.plan.vision import count_model

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "model_configs"


def rows() -> list[tuple[str, int]]:
    """(name, parameters) of params.tsv."""
    table = FOLDER / "params.tsv"
    lines = table.read_text(encoding="utf-8").splitlines()[1:] if table.is_file() else []
    return [(name, int(count)) for name, count, *_ in (line.split("\t") for line in lines)]


@pytest.mark.parametrize(("name", "parameters"), rows() or [("none", 0)], ids=lambda value: str(value))
def test_counted_from_the_config_alone(name: str, parameters: int, shared_data: Path) -> None:
    """Multi-token modules, which transformers leaves out, are not counted here either."""
    sizes = count_model(shared_data / "model_configs" / f"{name}.json")
    assert sizes.total == parameters
