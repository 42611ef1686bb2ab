"""`orrery convert`, as a person types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.model import Decoder, DecoderConfig
from orrery.model.folder import save_model
from orrery.model.mlp import Mlp
from orrery.text import TokenizerConfig, train_tokenizer


def test_help(orrery) -> None:
    done = orrery("convert", "--help")
    assert done.returncode == 0
    assert "--type" in done.stdout and "--check" in done.stdout and "q4_k_m" in done.stdout


def test_a_folder_to_gguf_checked_and_run(orrery, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat. "] * 20, TokenizerConfig(vocab_size=280))
    shape = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=32,
        n_layers=2,
        n_heads=4,
        feed_forward=Mlp(d_ff=64),
        max_positions=64,
    )
    save_model(Decoder(shape, seed=1), tmp_path / "model", bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    tokenizer.save(tmp_path / "model")
    done = orrery("convert", tmp_path / "model", tmp_path / "model.gguf", "--type", "q8_0", "--check")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "wrote" in said and "checked: ids of" in said and "next: orrery generate" in said
    again = orrery("convert", tmp_path / "model", tmp_path / "model.gguf", "--type", "q8_0")
    assert again.returncode != 0 and "is there already" in again.stdout + again.stderr


def test_a_tokenizer_is_found_by_the_name_of_its_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from orrery.cli.pipeline.texts import load_tokenizer
    from orrery.kit.errors import OrreryError
    from orrery.text.config import TokenizerConfig
    from orrery.text.train import train_tokenizer

    trained = train_tokenizer(["a b c " * 50], TokenizerConfig(vocab_size=300))
    trained.save(tmp_path)
    monkeypatch.setattr(
        "orrery.serve.find.demo_model", lambda name: tmp_path if name == "some-demo" else None
    )
    assert load_tokenizer(Path("some-demo")).encode("a b") == trained.encode("a b")
    with pytest.raises(OrreryError, match="there is no model at 'no-such'"):
        load_tokenizer(Path("no-such"))
