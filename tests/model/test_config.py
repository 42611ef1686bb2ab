"""A decoder's shape: what fits, what does not, and how it reads from plain data."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.model import DecoderConfig
from orrery.model.mlp import Mlp
from orrery.model.positions import Alibi, Rope

from .shapes import SHAPES, shape


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_reads_back_from_plain_data(name: str) -> None:
    cfg = shape(name)
    assert resolve(DecoderConfig, to_dict(cfg)) == cfg


def test_the_default_is_llama_shaped() -> None:
    cfg = DecoderConfig()
    assert (cfg.norm, cfg.placement, cfg.position, cfg.tied) == ("rmsnorm", "pre", Rope(), True)
    assert isinstance(cfg.feed_forward, Mlp) and cfg.feed_forward.gated
    assert cfg.kv_heads == cfg.n_heads and cfg.head_size * cfg.n_heads == cfg.d_model


def test_derived_sizes_follow_a_changed_field() -> None:
    cfg = DecoderConfig(d_model=64, n_heads=4)
    wider = dataclasses.replace(cfg, d_model=128, n_heads=8)
    assert (cfg.head_size, cfg.kv_heads) == (16, 4)
    assert (wider.head_size, wider.kv_heads) == (16, 8)


def test_the_pattern_is_cycled_over_the_layers() -> None:
    local = Rope(theta=100.0)
    cfg = DecoderConfig(
        n_layers=5, window=7, layer_pattern=("local", "local", "global"), local_position=local
    )
    assert [cfg.layer_window(i) for i in range(5)] == [7, 7, None, 7, 7]
    assert [cfg.layer_position(i) for i in range(5)] == [local, local, Rope(), local, local]
    same = dataclasses.replace(cfg, local_position=None, position=Alibi())
    assert {same.layer_position(i) for i in range(5)} == {Alibi()}


def test_the_first_layers_may_be_dense() -> None:
    cfg = shape("moe-sigmoid")
    assert [cfg.layer_feed_forward(i).kind for i in range(3)] == ["mlp", "moe", "moe"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"d_model": 30}, "d_model=30 does not divide into n_heads=4"),
        ({"n_kv_heads": 3}, "multiple of n_kv_heads=3"),
        ({"n_kv_heads": 0}, "n_kv_heads=0"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"layer_pattern": ("local",)}, "need a window"),
        ({"layer_pattern": ()}, "at least one layer"),
        ({"parallel": True, "placement": "post"}, "placement='post' does not fit"),
        ({"norm": "layernorm", "norm_unit_offset": True}, "belongs to norm='rmsnorm'"),
        ({"first_dense_layers": 1}, "needs dense_feed_forward"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_numbers_that_do_not_fit_are_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(OrreryError, match=re.escape(says)):
        DecoderConfig(**fields)
    with pytest.raises(OrreryError, match=re.escape(says)):
        resolve(DecoderConfig, fields)


def test_a_misspelt_setting_is_mended() -> None:
    with pytest.raises(OrreryError, match="Did you mean 'n_heads'"):
        resolve(DecoderConfig, {"n_head": 4})
    with pytest.raises(OrreryError, match="alibbi"):
        resolve(DecoderConfig, {"position": {"kind": "alibbi"}})
