"""`orrery generate`, over a small model made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import orrery
from orrery.cli.generate import generate
from orrery.kit.errors import OrreryError
from orrery.model import Decoder, DecoderConfig
from orrery.model.mlp import Mlp
from orrery.serve.lm import LM
from orrery.text import TokenizerConfig, train_tokenizer


@pytest.fixture(scope="module")
def lm() -> LM:
    tokenizer = train_tokenizer(["the cat sat on the mat. "] * 20, TokenizerConfig(vocab_size=300))
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=32, n_layers=1, n_heads=4, feed_forward=Mlp(d_ff=48), max_positions=64
    )  # fmt: skip
    model = Decoder(config, seed=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    made = LM(model=model, tokenizer=tokenizer)
    made.defaults = {"top_k": 5, "top_p": 0.5}
    return made


@pytest.fixture
def said(lm: LM, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """(options) -> what the verb printed."""
    monkeypatch.setattr(orrery, "load", lambda model: lm)

    def run(**options: Any) -> str:
        generate(Path("model"), **{"prompt": "the cat", "max_tokens": 6, "ignore_eos": True, **options})
        return capsys.readouterr().out

    return run


def test_the_advice_of_the_makers_holds_until_something_else_is_asked(said: Any, lm: LM) -> None:
    how = dict(max_tokens=6, ignore_eos=True, temperature=0.8, top_k=5)
    assert said() == "the cat" + lm.generate("the cat", top_p=0.5, **how).text + "\n"
    assert said(top_p=0.9, seed=3) == "the cat" + lm.generate("the cat", top_p=0.9, seed=3, **how).text + "\n"


def test_every_setting_arrives(said: Any, lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    real = lm.generate
    monkeypatch.setattr(lm, "generate", lambda prompt, **how: asked.update(how) or real(prompt, **how))
    given = dict(
        temperature=0.9, top_p=0.8, top_k=7, min_p=0.01, typical_p=0.9, xtc_probability=0.5, xtc_threshold=0.2,
        repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.2, dry_multiplier=0.8, dry_base=1.5,
        dry_allowed_length=3, seed=4, n=2, best_of=3, logprobs=1, prompt_logprobs=1, length_penalty=0.5,
    )  # fmt: skip
    done = json.loads(said(**given, bad_word=["mat"], dry_breaker=["."], stop=["zzz"], regex=".*", json=True))
    assert asked == {
        **given, "bad_words": ["mat"], "dry_breakers": ["."], "stop": ("zzz",), "num_beams": 1, "max_tokens": 6,
        "ignore_eos": True, "grammar": asked["grammar"],
    }  # fmt: skip
    assert (asked["grammar"].kind, asked["grammar"].source) == ("regex", ".*")
    assert len(done["others"]) == 1 and len(done["top_logprobs"]) == len(done["ids"])
    assert len(done["prompt_logprobs"]) == len(lm.prompt_ids("the cat")) - 1


def test_searches_do_not_draw(said: Any, lm: LM) -> None:
    """The makers' top-k and temperature are for sampling: beams and contrastive search leave them out."""
    beams = said(beams=3, n=2)
    best = lm.generate("the cat", max_tokens=6, ignore_eos=True, temperature=0, num_beams=3, n=2)
    assert f"the cat{best.text}\n" in beams and beams.count("---") == 2
    found = lm.generate(
        "the cat", max_tokens=6, ignore_eos=True, temperature=0, top_k=4, contrastive_alpha=0.6
    )
    assert said(contrastive_alpha=0.6) == f"the cat{found.text}\n"


def test_tokens_are_shown_with_what_else_could_have_been(said: Any, lm: LM) -> None:
    lines = said(temperature=0.0, logprobs=2, max_tokens=3).splitlines()
    done = lm.generate("the cat", max_tokens=3, ignore_eos=True, temperature=0, logprobs=2)
    assert len(lines) == len(("the cat" + done.text).splitlines()) + 3
    assert lines[-1].count("%") == 3  # the token itself and two


def test_shapes(said: Any, tmp_path: Path) -> None:
    pytest.importorskip("llguidance", reason="needs the extra: pip install 'orrery-lm[serve]'")
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}')
    options = dict(prompt="the", ignore_eos=False, max_tokens=20)
    assert said(choice=["a mat", "a cat"], **options) in ("thea mat\n", "thea cat\n")
    assert said(json_schema=schema, **options).strip().removeprefix("the").strip() in ("true", "false")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"regex": "a", "choice": ["b"]}, "one shape"),
        ({"json_schema": Path("nowhere.json")}, "cannot read the schema nowhere.json"),
        ({"prompt_logprobs": 1}, "add --json"),
        ({"beams": 2, "temperature": 0.5}, "does not sample"),
    ],
)
def test_mistakes_are_named(said: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OrreryError, match=says):
        said(**options)
