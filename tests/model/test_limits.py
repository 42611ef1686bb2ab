"""Configurations that cannot be meant are refused at once, by the name of the field."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.model import DecoderConfig
from orrery.model.mlp import Mlp
from orrery.model.positions import LongRope, Rope, Yarn

from .shapes import SHAPES, shape


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"d_model": "64"}, "d_model='64' must be a whole number"),
        ({"d_model": 64.0}, "d_model=64.0 must be a whole number"),
        ({"n_heads": True}, "n_heads=True must be a whole number"),
        ({"n_layers": 10**9}, "n_layers=1000000000 must not be above 1024"),
        ({"vocab_size": 10**5000}, "vocab_size=a number of 16610 bits must not be above"),
        ({"vocab_size": -(10**30)}, "must be at least 1"),
        ({"max_positions": 0}, "max_positions=0 must be at least 1"),
        ({"window": -5}, "window=-5 must be at least 1"),
        ({"norm_eps": 0}, "norm_eps=0 must be at least 1e-30"),
        ({"norm_eps": math.nan}, "norm_eps=nan must be a finite number"),
        ({"attention_scale": math.inf}, "attention_scale=inf must be a finite number or null"),
        ({"tied": "yes"}, "tied='yes' must be true or false"),
        ({"tied": None}, "tied=None must be true or false"),
        ({"norm": "batchnorm"}, "norm='batchnorm' must be 'rmsnorm' or 'layernorm'"),
        ({"qk_norm": 1}, "qk_norm=1 must be true or false or 'each_head' or 'width'"),
        ({"norm_eps": "x" * 500}, "norm_eps='xxxx"),
        ({"layer_pattern": ("global", "sideways")}, "layer_pattern=a tuple must be a list, each 'global' or"),
        ({"layer_pattern": ["global"]}, "layer_pattern=a list must be a list"),
        ({"layer_pattern": ("global",) * 100_000}, "layer_pattern=a tuple must be a list"),
        ({"feed_forward": {"d_ff": 4}}, "feed_forward=a dict must be a Mlp or a Moe"),
        ({"feed_forward": Mlp(d_ff=0)}, "feed_forward.d_ff=0 must be at least 1"),
        ({"feed_forward": Mlp(d_ff="wide")}, "feed_forward.d_ff='wide' must be a whole number"),  # type: ignore[bad-argument-type]
        ({"feed_forward": Mlp(d_ff=4, activation="swoosh")}, "feed_forward.activation='swoosh'"),  # type: ignore[bad-argument-type]
        ({"position": Rope(theta=math.nan)}, "position.theta=nan must be a finite number"),
        ({"position": Rope(theta=0.0)}, "position.theta=0.0 must be at least 1"),
        ({"position": Rope(fraction=2.0)}, "position.fraction=2.0 must not be above 1"),
        ({"position": Rope(scaling=Yarn(factor=0.0, original_max_positions=4))}, "position.scaling.factor=0.0"),
        (
            {"position": Rope(scaling=LongRope(short_factor=(1.0, math.nan), long_factor=(1.0,), factor=2, original_max_positions=4))},
            "position.scaling.short_factor=a tuple must be a list, each a finite number",
        ),
        (
            {"position": Rope(scaling=LongRope(short_factor=(1.0, 0.0), long_factor=(1.0,), factor=2, original_max_positions=4))},
            "position.scaling.short_factor=0.0 must be at least 1e-06",
        ),
        ({"norm_weight": False}, "norm_weight=false belongs to norm='layernorm'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(fields: dict[str, Any], says: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(OrreryError, match=re.escape(says)) as caught:
        DecoderConfig(**fields)
    assert time.perf_counter() - begun < 1
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_within_the_limits(name: str) -> None:
    assert shape(name) == dataclasses.replace(shape(name))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.builds(object),
)  # fmt: skip


@given(name=st.sampled_from([field.name for field in dataclasses.fields(DecoderConfig)]), value=JUNK)
def test_junk_in_a_field_is_refused_or_a_config(name: str, value: Any) -> None:
    try:
        cfg = DecoderConfig(**{name: value})
    except OrreryError:
        return
    assert getattr(cfg, name) == value
