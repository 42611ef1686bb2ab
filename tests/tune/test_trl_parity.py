"""The loss that TRL's SFTTrainer computes on the same model and rows: same masks, same mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.model.folder import save_model
from orrery.tune.example_set import ExampleSet
from orrery.tune.measure import batches_of, heldout_loss
from orrery.tune.rows import Row
from orrery.tune.shapes import samples_of

from .conftest import Small

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
pytest.importorskip("trl")


def ours(small: Small, rows: list[dict[str, Any]], **settings: Any) -> tuple[float, int]:
    renderer = small.renderer(**settings)
    samples = [s for n, row in enumerate(rows) for s in samples_of(Row(f"row {n}", row))]
    examples = ExampleSet.of((e for s in samples for e in renderer.examples(s)), name="x")
    return heldout_loss(model(small), list(batches_of(examples, positions=64))), int(
        examples.supervised.sum()
    )


def model(small: Small) -> torch.nn.Module:
    made = small.model()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # far from the uniform distribution, so that a wrong mask shows
    return made.eval()


def theirs(small: Small, rows: list[dict[str, Any]], folder: Path, **settings: Any) -> tuple[float, int]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    save_model(model(small), folder, bos_id=small.tokenizer.bos_id, eos_id=small.tokenizer.eos_id)
    small.tokenizer.save(folder)
    small.chat.save(folder)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder / "out"), max_length=None, per_device_train_batch_size=len(rows), report_to=[], use_cpu=True,
            bf16=False, disable_tqdm=True, **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch)), int((batch["labels"] != -100).sum())


def test_assistant_turns_only(small: Small, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "system", "content": "be short"},
                {"role": "user", "content": "what is one plus two " * (n + 1)},
                {"role": "assistant", "content": "it is three"},
                {"role": "user", "content": "and less"},
                {"role": "assistant", "content": "more or less " * (3 - n)},
            ]
        }
        for n in range(3)
    ]
    (loss, count), (wanted, labels) = (
        ours(small, rows),
        theirs(small, rows, tmp_path / "m", assistant_only_loss=True),
    )
    assert count == labels and loss == pytest.approx(wanted, abs=1e-5)


def test_completions_only(small: Small, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"what is {word}", "completion": f" it is {word} " * 2} for word in ("one", "two", "three")
    ]
    begun = [
        {**row, "prompt": f"<|begin_of_text|>{row['prompt']}"} for row in rows
    ]  # theirs adds none by itself
    loss, count = ours(small, rows, chat=None)
    wanted, labels = theirs(small, begun, tmp_path / "m", completion_only_loss=True)
    assert count == labels and loss == pytest.approx(wanted, abs=1e-5)
