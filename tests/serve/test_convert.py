"""A model in other formats: the same ids, the same template, the logits of the numbers that were stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.gguf import GgufFile
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.convert import PROBES, check, convert, open_plain
from orrery.serve.lm import LM
from orrery.text import Tokenizer
from orrery.text.chat import ChatFormat

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
ROWS = 16
"""More than the tokenizer has ids: as models are padded."""


@pytest.fixture(scope="module")
def source(
    tokenizer: Tokenizer,
    make_model: Callable[..., Decoder],
    save_lm: Callable[[LM, Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    model = make_model(tokenizer.vocab_size + ROWS, n_heads=2, n_kv_heads=1)
    lm = LM(model=model, tokenizer=tokenizer, chat=ChatFormat(tokenizer))
    return save_lm(lm, tmp_path_factory.mktemp("convert") / "model")


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m", "iq4_nl"])
def test_to_gguf_and_checked(source: Path, tmp_path: Path, kind: str) -> None:
    seen: list[tuple[int, int, str]] = []
    target = tmp_path / "model.gguf"
    opened = convert(source, target, kind=kind, progress=lambda *step: seen.append(step))
    result = check(target, opened=opened, kind=kind)
    assert result.texts == len(PROBES) and result.template
    assert result.largest < 1e-3 and 0 <= result.kl < (1e-6 if kind == "f32" else 0.5)
    assert seen[-1][0] == seen[-1][1] and [done for done, *_ in seen] == sorted(done for done, *_ in seen)


def test_there_and_back_again(source: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    """folder -> f32 file -> bf16 folder: ids, roles and text of the chat format, padding, and weights but for rounding."""
    convert(source, tmp_path / "model.gguf", kind="f32")
    opened = convert(tmp_path / "model.gguf", tmp_path / "again", kind="bf16")
    assert check(tmp_path / "again", opened=opened, kind="bf16").template
    before, after = LM.load(source), LM.load(tmp_path / "again")
    assert after.model.dtype == torch.bfloat16 and after.model.cfg.vocab_size == tokenizer.vocab_size + ROWS
    for name, tensor in before.model.state_dict().items():
        torch.testing.assert_close(after.model.state_dict()[name], tensor.bfloat16(), atol=0, rtol=0.01)
    assert before.chat is not None and after.chat is not None
    for messages in (MESSAGES, MESSAGES[:1]):
        ours, theirs = before.chat.render(messages), after.chat.render(messages)
        assert list(ours.ids) == list(theirs.ids)
    assert after.generate("the cat", max_tokens=4, temperature=0.0).text is not None


def test_rows_without_a_token_are_filled_up(source: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    convert(source, tmp_path / "model.gguf", kind="q8_0")
    with GgufFile.open(tmp_path / "model.gguf") as file:
        names = file.metadata["tokenizer.ggml.tokens"]
        assert len(names) == tokenizer.vocab_size + ROWS == file.tensors["token_embd.weight"].shape[0]
        assert names[-1] == f"[PAD{len(names) - 1}]"
        assert file.metadata["tokenizer.chat_template"]


def test_a_file_of_blocks_becomes_plain_numbers(source: Path, tmp_path: Path) -> None:
    """What is converted from a quantised file is what its blocks stand for."""
    convert(source, tmp_path / "small.gguf", kind="q8_0")
    convert(tmp_path / "small.gguf", tmp_path / "plain.gguf", kind="f32")
    small, plain = (open_plain(tmp_path / name).model for name in ("small.gguf", "plain.gguf"))
    for name, tensor in small.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)


def test_a_check_finds_another_model(source: Path, tmp_path: Path) -> None:
    opened = convert(source, tmp_path / "model.gguf", kind="f32")
    with torch.no_grad():
        opened.model.embed.weight.mul_(1.5)
    with pytest.raises(OrreryError, match="logits that differ by"):
        check(tmp_path / "model.gguf", opened=opened, kind="f32")


def test_the_logits_of_a_file_are_those_of_its_folder(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "model.gguf", kind="f32")
    ids = torch.arange(20)
    with torch.inference_mode():
        ours, theirs = (
            m.head(m(ids, Packed([20])))
            for m in (open_plain(p).model for p in (source, tmp_path / "model.gguf"))
        )
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "target, kind, says",
    [
        ("x.gguf", "q4_k_x", r"cannot be written as 'q4_k_x'.*Did you mean"),
        ("x", "q8_0", r"cannot be written as 'q8_0'; known are f32, f16, bf16"),
        ("there.gguf", "f32", "is there already"),
        ("there", "f32", "is there already"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_opened(
    tmp_path: Path, target: str, kind: str, says: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.gguf").write_bytes(b"kept")
    with pytest.raises(OrreryError, match=says):
        convert(tmp_path / "no-such-model", tmp_path / target, kind=kind)
    assert (tmp_path / "there.gguf").read_bytes() == b"kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there", "there.gguf"]


def test_a_network_without_words_in_the_format(
    tokenizer: Tokenizer,
    make_model: Callable[..., Decoder],
    save_lm: Callable[[LM, Path], Path],
    tmp_path: Path,
) -> None:
    lm = LM(model=make_model(tokenizer.vocab_size, norm="layernorm", placement="post"), tokenizer=tokenizer)
    save_lm(lm, tmp_path / "odd")
    with pytest.raises(OrreryError, match=r"no GGUF architecture|has no words for this model"):
        convert(tmp_path / "odd", tmp_path / "odd.gguf", kind="f32")
    assert not (tmp_path / "odd.gguf").exists()


@pytest.mark.parametrize(
    "advice",
    [{"temperature": 0.7, "top_k": 20, "top_p": 0.95}, {"temperature": 0.0}],
    ids=["drawn", "greedy"],
)
def test_what_the_makers_recommend_goes_along(source: Path, tmp_path: Path, advice: dict[str, float]) -> None:
    made = tmp_path / "made"
    shutil.copytree(source, made)
    settings = {"do_sample": False} if advice == {"temperature": 0.0} else {"do_sample": True, **advice}
    file = made / "generation_config.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | settings))
    convert(made, tmp_path / "copy", kind="f32")
    assert open_plain(tmp_path / "copy").defaults == open_plain(made).defaults == advice
