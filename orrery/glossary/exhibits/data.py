"""Exhibits of data: what cleaning drops, what copies are found, how rows are drawn, packed and shared out."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import replace

import numpy as np

from orrery.data.clean import CleanConfig, clean, repeated_lines
from orrery.data.dedup import Seen, document_hash
from orrery.data.loader import Loader, LoaderConfig
from orrery.data.mixture import temperature_weights
from orrery.data.packing import BestFitPacking, StreamPacking
from orrery.data.shard import Shards
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _prepared


def prepared_corpus() -> Exhibit:
    """300 documents, 40 copies and 12 pieces of junk through `prepare`: where every document, byte and token went."""
    good = _prepared.pieces(300)
    junk = ["", "   \n", "ab " * 900, "same line\n" * 40] * 3
    with _prepared.folder() as where:
        account = _prepared.prepared(where, "corpus", [*good, *good[:40], *junk]).account
        train = Shards(where / "corpus")
        fingerprint = train.fingerprint[:12]
    dropped = [
        (f"dropped: {why}", n, account.dropped_bytes[why], "") for why, n in account.dropped_documents.items()
    ]
    splits = [
        (name, part["documents"], part["bytes"], part["tokens"]) for name, part in account.splits.items()
    ]
    tokens = account.text_tokens + account.separator_tokens
    return Exhibit(
        title=f"The account of one run; the shards' fingerprint is {fingerprint}",
        columns=("what", "documents", "bytes", "tokens"),
        rows=[
            ("read", account.read_documents, account.read_bytes, ""),
            *dropped,
            ("cleaned away", "", account.cleaned_bytes, ""),
            ("kept", account.kept_documents, account.kept_bytes, tokens),
            *splits,
        ],
        reads=f"Read = dropped + cleaned away + kept, and kept = train + heldout, in every unit: the run stops if a sum is wrong. "
        f"{account.separator_tokens} of the tokens are separators.",
    )


def cleaning_rules() -> Exhibit:
    """Eight texts through the shipped cleaner: what it mends, what it drops and by which rule."""
    samples = {
        "a sentence": "A sentence that says something.",
        "Windows line ends": "one\r\ntwo\r\n",
        "e and an accent": "cafe\u0301",
        "a NUL and a bell": "bell\x07 and nul\x00",
        "blanks only": " \n\t ",
        "one line 40 times": "All rights reserved.\n" * 40,
        "'ab ' 900 times": "ab " * 900,
        "random digits": "".join(map(str, np.random.Generator(np.random.PCG64(0)).integers(0, 10, 300))),
    }
    rows = []
    for name, text in samples.items():
        result = clean(text, CleanConfig())
        change = "mended" if result.text != text else "as it was"
        rows.append(
            (
                name,
                result.bytes_before,
                len(result.data),
                repeated_lines(text),
                change,
                result.reason or "kept",
            )
        )
    return Exhibit(
        title="Default rules of `clean`",
        columns=("sample", "bytes before", "after", "share in repeated lines", "text", "verdict"),
        rows=rows,
        reads="Rules of this kind find what is broken or repeats itself. They do not know what is true or useful: the random digits stay.",
    )  # fmt: skip


def copies_exact_and_near() -> Exhibit:
    """A text and five variants of it: which of them an exact hash of the cleaned bytes recognises as a copy."""
    text = "Ein Café in Zürich, eröffnet 1911.\nHeute geschlossen."
    variants = {
        "the text": text,
        "the same bytes": text,
        "Windows line ends": text.replace("\n", "\r\n"),
        "accents decomposed": unicodedata.normalize("NFD", text),
        "a year changed": text.replace("1911", "1912"),
        "a blank at the end": text + " ",
    }
    seen, raw, rows = Seen(), Seen(), []
    for name, variant in variants.items():
        cleaned = clean(variant, CleanConfig())
        hash = document_hash(cleaned.data)
        new_raw, new = raw.add(document_hash(variant.encode())), seen.add(hash)
        rows.append((name, hash.hex()[:12], "kept" if new_raw else "dropped", "kept" if new else "dropped"))
    return Exhibit(
        title="Exact deduplication before and after cleaning",
        columns=("variant", "hash of the cleaned text", "by raw bytes", "by cleaned bytes"),
        rows=rows,
        reads="Cleaning first makes more copies equal. A changed digit or a blank makes a new document to a hash: near copies, which are "
        "most of the copies on the web, need a comparison of parts.",
    )


def separators_recover_documents() -> Exhibit:
    """Six documents as one stream of ids, cut apart again at the end-of-text id; one of them spells the name of that id."""
    tokenizer = _prepared.tokenizer()
    texts = [
        "first document",
        "second, longer document\nwith two lines",
        "<|end_of_text|> typed by a person",
        "fourth",
        "x = 1",
        "end",
    ]
    with _prepared.folder() as where:
        _prepared.prepared(where, "six", texts, heldout=0.0)
        shards = Shards(where / "six")
        stream = np.concatenate([np.array(ids, dtype=np.int64) for ids in shards])
        first, last = shards.start_id, shards.eos_id
    ends = np.flatnonzero(stream == last)
    parts = np.split(stream, ends + 1)[:-1]
    rows = [
        (i, len(part), int(part[0]), int(part[-1]), tokenizer.decode_bytes(part[1:-1].tolist()).decode())
        for i, part in enumerate(parts)
    ]
    back = sorted(row[-1] for row in rows) == sorted(texts)
    return Exhibit(
        title=f"{len(stream)} ids; every document begins with id {first} and ends with id {last}",
        columns=("part", "tokens", "first id", "last id", "text between"),
        rows=rows,
        reads=f"The boundaries are in the ids themselves: {len(parts)} parts come out of {len(texts)} documents and all texts come back ({back}). "
        "The typed name stays text, for nobody's text may end a document.",
    )


def mixture_realised() -> Exhibit:
    """Three data sets drawn by weights 0.5, 0.3 and 0.2: their shares of the targets after 1 to 1000 steps."""
    texts = _prepared.pieces(700)
    with _prepared.folder() as where:
        for name, part in (("large", texts[:450]), ("middle", texts[450:640]), ("small", texts[640:])):
            _prepared.prepared(where, name, part, heldout=0.0)
        sets = [Shards(where / name) for name in ("large", "middle", "small")]
        loader = Loader(sets, LoaderConfig(context=128, rows=8, weights=(0.5, 0.3, 0.2)))
        drawn = {steps: loader.realised(steps) for steps in (1, 10, 100, 1000)}
        sizes = [part.n_tokens for part in sets]
    even = " / ".join(f"{weight:.2f}" for weight in temperature_weights(sizes, 5.0))
    last = drawn[1000]
    return Exhibit(
        title="Share of all targets drawn after so many steps",
        columns=("corpus", "tokens", "wanted", *map(str, drawn), "epochs"),
        rows=[(last[k].corpus, sizes[k], last[k].wanted, *(r[k].share for r in drawn.values()), last[k].epochs) for k in range(3)],
        reads="Every block of 16,384 rows holds each corpus in its exact share, so the shares close in on the weights. The small set is then "
        "read far more often than the large one: weights decide epochs. Without weights the sizes count; a temperature of 5 would make their "
        f"shares {even}.",
    )  # fmt: skip


def rows_by_ranks() -> Exhibit:
    """One step of 12 rows as one batch, as micro-batches and on several ranks: the same rows, in other hands."""
    with _prepared.folder() as where:
        _prepared.prepared(where, "data", _prepared.pieces(200), heldout=0.0)
        shards = Shards(where / "data")
        base = LoaderConfig(context=64, rows=12, seed=3)
        rows = []
        for micro, world in ((1, 1), (4, 1), (1, 3), (2, 3)):
            config = replace(base, rows=12 // (micro * world), micro_batches=micro)
            loaders = [Loader(shards, config, rank=rank, world=world) for rank in range(world)]
            for loader in loaders:
                loader.batch(41)  # what was asked before does not matter
            batches = [loaders[rank].batch(7, m) for m in range(micro) for rank in range(world)]
            digest = hashlib.sha256(b"".join(b.tokens.numpy().tobytes() for b in batches)).hexdigest()[:12]
            rows.append(
                (micro, world, config.rows, sum(map(len, batches)), digest, loaders[0].fingerprint[:12])
            )
    return Exhibit(
        title="Step 7, after step 41 was asked for",
        columns=(
            "micro-batches",
            "ranks",
            "rows in each",
            "tokens",
            "hash of all tokens",
            "loader's fingerprint",
        ),
        rows=rows,
        reads="A batch is a pure function of (seed, step): there is no position to save, so a resumed run needs only its step number. Ranks and "
        "micro-batches divide a step's rows and do not change them.",
    )


def packings_compared() -> Exhibit:
    """The same documents packed end to end and by best fit, in rows of 64 to 1024: room left empty, documents cut."""
    ids = _prepared.tokenizer().encode_batch(_prepared.pieces(2000), threads=1)
    lengths = np.array([len(document) for document in ids], dtype=np.int64)
    rows, empty = [], {"stream": [], "best-fit": []}
    contexts = (64, 256, 512, 1024)
    for context in contexts:
        for name in ("stream", "best-fit"):
            packing = (StreamPacking if name == "stream" else BestFitPacking)(lengths, context, seed=0)
            pieces = [run[0] for row in range(packing.rows) for run in packing.row(0, row)]
            cut = float((np.bincount(pieces) > 1).mean())
            waste = packing.padding / (packing.rows * context)
            empty[name].append(100 * waste)
            rows.append((context, name, packing.rows, waste, cut, packing.dropped))
    padded = 1 - lengths.clip(max=1024).sum() / (len(lengths) * min(1024, int(lengths.max())))
    return Exhibit(
        title=f"{len(lengths):,} documents of {int(np.median(lengths))} tokens (median), the longest {int(lengths.max()):,}",
        columns=("row", "packing", "rows", "share left empty", "documents cut", "targets lost"),
        rows=rows,
        series=[Series(name=name, x=contexts, y=values) for name, values in empty.items()],
        x="tokens in a row", y="% left empty", log_x=True,
        reads=f"One document a row of 1024 would leave {padded:.0%} empty. Stream packing leaves nothing and cuts many documents; best-fit cuts only "
        "those longer than a row and still leaves next to nothing. Neither loses a target.",
    )  # fmt: skip


def library_statistics() -> Exhibit:
    """Pieces of Python's library as a corpus: documents, bytes, words, tokens, and how unevenly they are distributed."""
    texts = _prepared.pieces(10**6)
    sizes = np.array(sorted((len(text.encode()) for text in texts), reverse=True))
    tokens = sum(map(len, _prepared.tokenizer().encode_batch(texts, threads=1)))
    words = "\n".join(texts).split()
    share = float(sizes[: len(sizes) // 10].sum() / sizes.sum())
    return Exhibit(
        title="A small corpus",
        columns=("quantity", "value"),
        rows=[
            ("documents", len(texts)),
            ("bytes", int(sizes.sum())),
            ("words (between blanks)", len(words)),
            ("different words", len(set(words))),
            ("tokens of a 1000-token BPE", tokens),
            ("bytes a token", int(sizes.sum()) / tokens),
            ("bytes in the median document", int(np.median(sizes))),
            ("in the largest", int(sizes[0])),
            ("share of the bytes in the largest tenth of the documents", share),
        ],
        reads="How much text there is depends on the unit, so a size without one says little. And sizes are skewed: most documents are short, "
        f"and a tenth of them are {share:.0%} of what a model reads.",
    )
