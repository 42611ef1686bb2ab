"""The ways in which a person opens a file, by name; each returns what it made, in a few words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import orrery
from orrery.kit.errors import OrreryError
from tests.hostile.of_text import all_pairs, any_bytes, long_texts, spelled_control


def model(path: Path) -> str:
    """`orrery.load(path)`: config, weights, tokenizer, chat template, generation settings."""
    lm = orrery.load(path)
    return f"{sum(p.numel() for p in lm.model.parameters())} parameters"


def running_model(path: Path) -> str:
    """The same, and one use of it."""
    lm = orrery.load(path)
    return str(tuple(lm.logits([1, 2, 3]).shape))


def config(path: Path) -> str:
    """The shape alone, as `orrery plan` reads it."""
    from orrery.model.folder import load_config

    return type(load_config(path)).__name__


def tokenizer(path: Path) -> str:
    """`Tokenizer.load`, and one use of it."""
    from orrery.text.tokenizer import Tokenizer

    opened = Tokenizer.load(path)
    return opened.decode(opened.encode("abcd"))


def tokenizer_formats(path: Path) -> str:
    """The other formats of a vocabulary, by suffix."""
    from orrery.text.formats import bert_vocab, tiktoken_file
    from orrery.text.sentencepiece import sentencepiece_file

    by_suffix = {".model": sentencepiece_file, ".tiktoken": tiktoken_file, ".txt": bert_vocab}
    return str(by_suffix[path.suffix](path).vocab_size)


def recipe(path: Path) -> str:
    """A YAML of stages, as `orrery run` reads it."""
    from orrery.cli.pipeline.recipe import RunRecipe
    from orrery.kit.config import load

    return load(RunRecipe, path).name


def source(path: Path) -> str:
    """A file or folder of text, every document read; the first bad line stops."""
    from orrery.data.source import FilesSource, read_documents

    return str(sum(len(document.text) for document in read_documents(FilesSource(paths=(str(path),)))))


def lenient_source(path: Path) -> str:
    """The same, bad lines left out: "documents|bad lines"."""
    from orrery.data.source import FilesSource, read_documents

    told: list[str] = []
    reading = FilesSource(paths=(str(path),), unreadable="skip")
    texts = [
        d.text for d in read_documents(reading, None, lambda where, error: told.append(f"{where}: {error}"))
    ]
    return json.dumps([texts[:50], told[:50]])


def shards(path: Path) -> str:
    """A prepared data set, hashes checked."""
    from orrery.data.shard import Shards

    opened = Shards(path)
    return str(sum(int(ids.sum()) for ids in opened))


def quick_shards(path: Path) -> str:
    """A prepared data set, hashes not checked."""
    from orrery.data.shard import Shards

    opened = Shards(path, verify=False)
    return str(sum(int(ids.sum()) for ids in opened))


def checkpoint(path: Path) -> str:
    """The newest checkpoint of a run: "step|what was passed over"."""
    from orrery.train.checkpoint import Checkpoints

    kept = Checkpoints(path)
    found = kept.newest()
    return f"{found.state['step'] if found else None}|{'; '.join(kept.found_damaged)}"


def one_checkpoint(path: Path) -> str:
    """One checkpoint's folder."""
    from orrery.train.checkpoint import read_checkpoint

    return ",".join(sorted(read_checkpoint(path).tensors))


def other_model(path: Path) -> str:
    """A checkpoint's weights put into a model of another shape."""
    import torch

    from orrery.train.checkpoint import Checkpoints
    from orrery.train.state import load_model_tensors

    found = Checkpoints(path).newest()
    assert found is not None
    try:
        load_model_tensors(torch.nn.Linear(2, 2), found.tensors["model"])
    except OrreryError as error:
        raise OrreryError(f"'{found.path}': {error}") from None  # the caller knows where it is from
    return "loaded"


def weights_cut_short(path: Path) -> str:
    """The file shrinks between its opening and the first read of a tensor."""
    from orrery.kit.model_folder import open_weights

    with open_weights(path) as weights:
        os.truncate(path / "model.safetensors", 2000)
        return str(sum(int(weights.raw(name).sum()) for name in weights.tensors))


def all_weights(path: Path) -> str:
    """Every tensor of the weights, whatever the config says."""
    from orrery.kit.model_folder import open_weights

    with open_weights(path) as weights:
        return str(sum(weights.raw(name).nbytes for name in weights.tensors))


def weights_not_finite(path: Path) -> str:
    """Loaded with a report, and refused when strict."""
    from orrery.model.folder import load_model

    loaded = load_model(path)
    try:
        load_model(path, strict=True)
    except OrreryError as error:
        return f"reported {', '.join(loaded.not_finite)}; strict: {error}"
    raise AssertionError("strict loading let NaN through")


OPENERS: dict[str, Callable[[Path], str]] = {
    function.__name__: function
    for function in (
        model, running_model, config, tokenizer, tokenizer_formats, recipe, source, lenient_source, shards, quick_shards, checkpoint,
        one_checkpoint, other_model, weights_cut_short, all_weights, weights_not_finite, long_texts, spelled_control, any_bytes, all_pairs,
    )
}  # fmt: skip
