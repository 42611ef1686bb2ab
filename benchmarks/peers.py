"""What users would train with instead: a plain GPT loop (eager, compiled) and the transformers Trainer.

Each peer trains the same shape on the same batches and answers `round(steps)` with the seconds of each step, so that the
benchmark can run them in turn and a machine whose speed drifts slows all of them alike.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The model and batch that everybody trains."""

    layers: int = 6
    width: int = 384
    heads: int = 6
    context: int = 256
    vocab: int = 8192
    rows: int = 16

    @property
    def tokens(self) -> int:
        return self.rows * self.context

    def flops_per_token(self) -> float:
        """6 N + 12 L d T, attention not halved for causality (the convention of PaLM, appendix B)."""
        block = 12 * self.width**2
        weights = self.layers * block + self.vocab * self.width
        return 6 * weights + 12 * self.layers * self.width * self.context


class PlainAttention(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.heads = s.heads
        self.qkv = nn.Linear(s.width, 3 * s.width)
        self.out = nn.Linear(s.width, s.width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class PlainBlock(nn.Module):
    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(s.width), PlainAttention(s)
        self.norm2 = nn.LayerNorm(s.width)
        self.mlp = nn.Sequential(nn.Linear(s.width, 4 * s.width), nn.GELU(), nn.Linear(4 * s.width, s.width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PlainGPT(nn.Module):
    """GPT-2's architecture written the usual way: (B, T) in, whole logits, one cross-entropy."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(s.vocab, s.width)
        self.places = nn.Embedding(s.context, s.width)
        self.blocks = nn.ModuleList(PlainBlock(s) for _ in range(s.layers))
        self.norm = nn.LayerNorm(s.width)
        self.head = nn.Linear(s.width, s.vocab, bias=False)
        self.head.weight = self.tokens.weight
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.tokens(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        logits = self.head(self.norm(h))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1))


class PlainLoop:
    """A well-written training loop: memory-mapped tokens, fused AdamW, gradient clipping, no other work."""

    def __init__(self, s: Shape, data: np.ndarray, *, compiled: bool) -> None:
        torch.manual_seed(0)
        self.s, self.data = s, data
        self.model: nn.Module = PlainGPT(s)
        self.call = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)
        self.rng = np.random.default_rng(0)

    def step(self) -> float:
        starts = self.rng.integers(0, len(self.data) - self.s.context - 1, self.s.rows)
        rows = np.stack([self.data[i : i + self.s.context + 1] for i in starts]).astype(np.int64)
        x, y = torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, 1:])
        loss = self.call(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def round(self, steps: int) -> list[float]:
        times = []
        for _ in range(steps):
            began = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - began)
        return times


class HuggingFace:
    """The transformers Trainer on its GPT-2 model: no dropout, SDPA attention, fused AdamW, no logging or saving.

    `rows`: a list of id arrays. Equal lengths go as they are; others are padded to the longest of the batch, as its
    language-modelling collator does, with the padding masked.
    """

    def __init__(self, s: Shape, rows: list[np.ndarray]) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        self.s, self.rows = s, rows
        self.model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=s.vocab, n_positions=s.context, n_embd=s.width, n_layer=s.layers, n_head=s.heads,
                activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
                bos_token_id=0, eos_token_id=0,
            )
        )  # fmt: skip
        self.next = 0

    def round(self, steps: int) -> list[float]:
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        class Clock(TrainerCallback):
            def __init__(self) -> None:
                self.marks: list[float] = []

            def on_train_begin(self, *args: object, **kwargs: object) -> None:
                self.marks.append(time.perf_counter())

            def on_step_end(self, *args: object, **kwargs: object) -> None:
                self.marks.append(time.perf_counter())

        take = steps * self.s.rows
        picked = [self.rows[(self.next + i) % len(self.rows)] for i in range(take)]
        self.next += take
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, per_device_train_batch_size=self.s.rows, max_steps=steps, report_to=[], save_strategy="no",
                logging_strategy="no", optim="adamw_torch_fused", learning_rate=3e-4, weight_decay=0.1, use_cpu=True,
                disable_tqdm=True, dataloader_drop_last=True, lr_scheduler_type="constant",
            )  # fmt: skip
            trainer = Trainer(
                model=self.model, args=arguments, train_dataset=[{"input_ids": r} for r in picked],
                data_collator=self.collate, callbacks=[clock],
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return [b - a for a, b in itertools.pairwise(clock.marks)]

    def collate(self, items: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
        rows = [np.asarray(item["input_ids"], dtype=np.int64) for item in items]
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        labels = np.where(mask == 1, ids, -100)
        batch = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
        if mask.min() == 0:
            batch["attention_mask"] = torch.from_numpy(mask)
        return batch
