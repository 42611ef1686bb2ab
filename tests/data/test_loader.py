from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.data.batch import Batch
from orrery.data.loader import Loader, LoaderConfig
from orrery.data.shard import Shards
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError

from .conftest import write_shards

Make = Callable[..., Shards]


def documents_of(lengths: list[int], first: int = 0) -> list[list[int]]:
    """Documents in which every token is another id, so that each can be told from all others."""
    numbers = iter(range(first, first + sum(lengths)))
    return [[next(numbers) for _ in range(length)] for length in lengths]


DOCUMENTS = documents_of([7, 2, 30, 11, 19, 3, 3, 50, 8, 4])
TARGETS = Counter(token for ids in DOCUMENTS for token in ids[1:])


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.tokens, other.tokens)
        and torch.equal(one.targets, other.targets)
        and one.lengths == other.lengths
        and one.pieces == other.pieces
    )


@settings(max_examples=60)
@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=12),
    st.integers(1, 20),
    st.integers(1, 4),
    st.sampled_from(["stream", "best-fit"]),
    st.integers(0, 3),
)
def test_every_token_is_a_target_once_an_epoch(
    lengths: list[int], context: int, rows: int, packing: str, seed: int
) -> None:
    import tempfile

    documents = documents_of(lengths)
    follows = {a: b for ids in documents for a, b in pairwise(ids)}
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(write_shards(Path(folder), documents))
        loader = Loader(shards, LoaderConfig(context=context, rows=1, packing=packing, seed=seed))  # type: ignore[arg-type]
        epoch = int(loader.steps_per_epoch)
        for first in (0, epoch):
            seen: Counter[int] = Counter()
            for step in range(first, first + epoch):
                batch = loader.batch(step)
                assert len(batch) <= context
                # Inputs and targets are neighbours in one document, across every cut.
                assert [follows[token] for token in batch.tokens.tolist()] == batch.targets.tolist()
                seen.update(batch.targets.tolist())
            assert seen == Counter(token for ids in documents for token in ids[1:])
        # More rows a step draw the same rows, in the same order.
        wide = Loader(shards, LoaderConfig(context=context, rows=rows, packing=packing, seed=seed))  # type: ignore[arg-type]
        narrow = [loader.batch(i) for i in range(3 * rows, 4 * rows)]
        assert wide.batch(3).tokens.tolist() == torch.cat([batch.tokens for batch in narrow]).tolist()


def test_runs_stay_within_documents(make_shards: Make) -> None:
    batch = Loader(make_shards(DOCUMENTS), LoaderConfig(context=16, rows=4)).batch(0)
    at = 0
    for piece, length in zip(batch.pieces, batch.lengths, strict=True):
        ids = DOCUMENTS[piece.document][piece.start : piece.start + piece.length + 1]
        assert batch.tokens[at : at + length].tolist() == ids[:-1]
        assert batch.targets[at : at + length].tolist() == ids[1:]
        at += length


@settings(max_examples=20)
@given(st.permutations(range(25)))
def test_batches_do_not_depend_on_what_was_asked_before(order: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(write_shards(Path(folder), DOCUMENTS))
        config = LoaderConfig(context=16, rows=2)
        in_order = Loader(shards, config)
        expected = [in_order.batch(step) for step in range(25)]
        mixed = Loader(shards, config)
        for step in order:
            assert same(mixed.batch(step), expected[step])


SCRIPT = """
import sys
from orrery.data.loader import Loader, LoaderConfig
from orrery.data.shard import Shards
shards = [Shards(folder) for folder in sys.argv[1:]]
batch = Loader(shards, LoaderConfig(context=16, rows=3, seed=7, weights=(0.7, 0.3))).batch(123)
print(batch.tokens.tolist(), batch.targets.tolist(), batch.lengths)
"""


def test_another_process_draws_the_same(make_shards: Make) -> None:
    parts = [make_shards(DOCUMENTS, "a"), make_shards(documents_of([40, 20], 500), "b")]
    batch = Loader(parts, LoaderConfig(context=16, rows=3, seed=7, weights=(0.7, 0.3))).batch(123)
    printed = subprocess.run(
        [sys.executable, "-c", SCRIPT, *(str(part.folder) for part in parts)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    ).stdout
    assert printed.strip() == f"{batch.tokens.tolist()} {batch.targets.tolist()} {batch.lengths}"


@pytest.mark.parametrize(
    ("rows", "micro_batches", "world"), [(12, 1, 1), (4, 3, 1), (2, 3, 2), (3, 1, 4), (1, 12, 1)]
)
def test_ranks_and_micro_batches_only_divide_a_step(
    make_shards: Make, rows: int, micro_batches: int, world: int
) -> None:
    shards = make_shards(DOCUMENTS)
    whole = Loader(shards, LoaderConfig(context=8, rows=12))
    config = LoaderConfig(context=8, rows=rows, micro_batches=micro_batches)
    loaders = [Loader(shards, config, rank=rank, world=world) for rank in range(world)]
    for step in (0, 1, 5):
        drawn = [loader.batch(step, micro) for micro in range(micro_batches) for loader in loaders]
        assert torch.cat([batch.tokens for batch in drawn]).tolist() == whole.batch(step).tokens.tolist()
    assert {loader.fingerprint for loader in loaders} == {whole.fingerprint}
    assert loaders[0].lineage(5) and [o.id for o in loaders[0].lineage(5)] == [o.id for o in whole.lineage(5)]


def test_lineage_leads_back_to_the_targets(make_shards: Make) -> None:
    parts = [make_shards(DOCUMENTS, "a"), make_shards(documents_of([40, 20], 500), "b")]
    loader = Loader(parts, LoaderConfig(context=16, rows=3, micro_batches=2))
    by_id = {(part.name, part.info(i).id): part[i].tolist() for part in parts for i in range(len(part))}
    for step in range(10):
        origins = loader.lineage(step)
        found = [by_id[origin.corpus, origin.id][origin.start : origin.stop] for origin in origins]
        targets = torch.cat([loader.batch(step, micro).targets for micro in range(2)]).tolist()
        assert [token for ids in found for token in ids] == targets
        assert {origin.path for origin in origins} <= {"a.txt", "b.txt"}


def test_epochs_differ_and_seeds_differ(make_shards: Make) -> None:
    shards = make_shards(DOCUMENTS)
    loader, other = (Loader(shards, LoaderConfig(context=8, rows=1, seed=seed)) for seed in (0, 1))
    epoch = int(loader.steps_per_epoch)
    orders = [[loader.batch(e * epoch + i).tokens.tolist() for i in range(epoch)] for e in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] != [other.batch(i).tokens.tolist() for i in range(epoch)]
    assert loader.fingerprint != other.fingerprint
    assert loader.epochs(3 * epoch) == pytest.approx(3)


def test_rows_of_one_document_are_spread_over_the_epoch(make_shards: Make) -> None:
    loader = Loader(make_shards(documents_of([401, 401])), LoaderConfig(context=4, rows=10))
    assert all(len({piece.document for piece in loader.batch(step).pieces}) == 2 for step in range(20))


@pytest.mark.parametrize("packing", ["stream", "best-fit"])
def test_the_account_of_an_epoch(make_shards: Make, packing: Any) -> None:
    loader = Loader(make_shards(DOCUMENTS), LoaderConfig(context=16, rows=1, packing=packing))
    (account,) = loader.account()
    drawn = [len(loader.batch(step)) for step in range(int(loader.steps_per_epoch))]
    assert (account.tokens, account.first, account.targets, account.dropped) == (137, 10, 127, 0)
    assert sum(drawn) == account.targets and account.slots == 16 * len(drawn)
    assert account.padding == sum(16 - size for size in drawn)


def test_whole_documents_within_a_budget_of_tokens(make_shards: Make) -> None:
    config = LoaderConfig(context=31, rows=1, packing="best-fit", long="drop")
    loader = Loader(make_shards(DOCUMENTS), config)
    (account,) = loader.account()
    assert account.dropped == 49  # the document of fifty tokens
    for step in range(int(loader.steps_per_epoch)):
        batch = loader.batch(step)
        assert len(batch) <= 31
        assert all(
            piece.start == 0 and piece.length == len(DOCUMENTS[piece.document]) - 1 for piece in batch.pieces
        )
    with pytest.raises(OrreryError, match="more than 31 tokens"):
        Loader(
            make_shards(DOCUMENTS, "b"), LoaderConfig(context=31, rows=1, packing="best-fit", long="error")
        )


def test_a_mixture_keeps_its_weights(make_shards: Make) -> None:
    parts = [make_shards(documents_of([300]), "a"), make_shards(documents_of([200, 200], 500), "b")]
    loader = Loader(parts, LoaderConfig(context=10, rows=8, weights=(3.0, 1.0)))
    steps = 600
    counted = Counter(
        piece.corpus
        for step in range(steps)
        for piece in loader.batch(step).pieces
        for _ in range(piece.length)
    )
    realised = loader.realised(steps)
    assert [part.targets for part in realised] == [counted[0], counted[1]]
    assert [part.wanted for part in realised] == [0.75, 0.25]
    assert realised[0].share == pytest.approx(0.75, abs=0.02)
    assert sum(part.rows for part in realised) == steps * 8
    assert realised[0].epochs == pytest.approx(realised[0].rows / 30)


def test_without_weights_a_mixture_is_in_proportion_to_tokens(make_shards: Make) -> None:
    parts = [make_shards(documents_of([300]), "a"), make_shards(documents_of([50, 50], 500), "b")]
    assert [part.wanted for part in Loader(parts, LoaderConfig()).realised(1)] == pytest.approx([0.75, 0.25])
    even = Loader(parts, LoaderConfig(temperature=1e9)).realised(1)
    assert [part.wanted for part in even] == pytest.approx([0.5, 0.5])


def test_data_smaller_than_a_row_repeat(make_shards: Make) -> None:
    batch = Loader(make_shards([[1, 2, 3]]), LoaderConfig(context=100, rows=3)).batch(5)
    assert batch.tokens.tolist() == [1, 2] * 3 and batch.lengths == (2, 2, 2)


def test_what_a_loader_refuses(make_shards: Make) -> None:
    shards = make_shards(DOCUMENTS)
    other = make_shards(DOCUMENTS, "other", vocab_size=2000)
    loader = Loader(shards, LoaderConfig(micro_batches=2))
    for step, micro in ((0, 2), (-1, 0), (0, -1)):
        with pytest.raises(OrreryError, match="no micro-batch"):
            loader.batch(step, micro)
    with pytest.raises(OrreryError, match="different tokenizers"):
        Loader([shards, other], LoaderConfig())
    with pytest.raises(OrreryError, match="at least one"):
        Loader([], LoaderConfig())
    with pytest.raises(OrreryError, match="3 weights for 1"):
        Loader(shards, LoaderConfig(weights=(1.0, 1.0, 1.0)))
    with pytest.raises(OrreryError, match="rank"):
        Loader(shards, LoaderConfig(), rank=2, world=2)
    with pytest.raises(OrreryError, match="nothing to learn from"):
        Loader(make_shards([[1], [2]], "short"), LoaderConfig())
    with pytest.raises(OrreryError, match="'rows' must be at least 1"):
        resolve(LoaderConfig, {"rows": 0})
