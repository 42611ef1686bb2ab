"""Texts and tokenizers as the `tokenizer` verbs are given them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from orrery.data.reader import read_file
from orrery.data.source import StdlibSource, list_files, read_documents
from orrery.kit.errors import OrreryError
from orrery.text.tokenizer import Tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file, a folder, a run folder, or a model known by name.

    Raises:
        OrreryError: nothing there, or no tokenizer in it.
    """
    from orrery.cli.pipeline.runner import RUN, stage_folder
    from orrery.serve.find import find_model

    if (path / RUN).is_file():
        return Tokenizer.load(stage_folder(path, "tokenizer"))
    return Tokenizer.load(path if path.exists() else find_model(path))


def labelled_texts(paths: list[Path] | None, by: str, *, most_bytes: int = 5_000_000) -> dict[str, list[str]]:
    """Texts under labels: a file's name, or, with `by`, that field of every JSON-lines record.

    Without paths, the standard library of this Python under its own label.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    if not paths:
        size = 0
        for document in read_documents(StdlibSource()):
            texts["python standard library"].append(document.text)
            size += len(document.text)
            if size > most_bytes:
                break
        return dict(texts)
    for file in list_files([str(path) for path in paths]):
        if by:
            for label, text in _records(file, by):
                texts[label].append(text)
        else:
            texts[file.name] += [document.text for document in read_file(file)]
    return dict(texts)


def _records(file: Path, by: str) -> list[tuple[str, str]]:
    import gzip
    import json

    rows = []
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as handle:
        for n, line in enumerate(handle, 1):
            record: dict[str, object] = {}
            try:
                record = json.loads(line)
                rows.append((str(record[by]), str(record["text"])))
            except (ValueError, TypeError):
                raise OrreryError(f"'{file}' line {n} is not a JSON record; --by needs jsonl files") from None
            except KeyError as missing:
                raise OrreryError(
                    f"'{file}' line {n} has no field {missing}; it has {', '.join(record)}"
                ) from None
    return rows
