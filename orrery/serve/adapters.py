"""Named adapters beside a model that is served: one model in memory, each request through the adapter it names, of whatever kinds they are.

    adapters = Adapters.of(lm.model)
    adapters.load("polite", "out/polite")                       # a folder as peft writes it, or of our own
    ctx.adapters = adapters.of_tokens(["polite", None], ctx.lengths)

Load and remove between passes, never during one. T tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError, suggest
from orrery.model.adapters import Adapter, AdapterSlots, Reft, merge_adapter
from orrery.model.adapters.folder import load_adapter
from orrery.model.adapters.slots import slots_of_tokens
from orrery.model.decoder import Decoder
from orrery.text.chat import ChatFormat
from orrery.text.chat_files import read_templates

if TYPE_CHECKING:
    from orrery.serve.lm import LM

LONGEST_NAME = 128
DEFAULT = "default"
"""What an adapter is called that was opened as if it were a model."""


class Adapters:
    """The adapters of one model by their names."""

    def __init__(self, model: Decoder) -> None:
        self.model, self._slots = model, AdapterSlots.of(model)
        self._by_name: dict[str, int] = {}
        self._fingerprints: dict[str, bytes] = {}

    @classmethod
    def of(cls, model: Decoder) -> Adapters:
        """Those of `model`, made at the first call: whoever serves the model sees the same."""
        adapters = model.__dict__.get("named_adapters")
        if adapters is None:
            adapters = cls(model)
            model.named_adapters = adapters  # type: ignore[bad-argument-type]
        return adapters

    @property
    def names(self) -> tuple[str, ...]:
        """In the order they came."""
        return tuple(self._by_name)

    def load(self, name: str, folder: str | Path) -> Adapter:
        """Read a folder that peft, or `save_adapter`, wrote.

        Raises:
            OrreryError: as `add` and `load_adapter`.
        """
        self._check_name(name)
        adapter = load_adapter(folder, self.model)
        self.add(name, adapter)
        return adapter

    def add(self, name: str, adapter: Adapter) -> None:
        """Put an adapter beside the model's layers; its training is over: it gets no gradients.

        Raises:
            OrreryError: the name is taken or no name, the adapter does not fit the model, it changes how latents become keys and
                values (serving folds that product into the queries), or it edits positions that only a look at the whole text finds.
        """
        self._check_name(name)
        folded = next((layer for layer in adapter.parts if layer.endswith(".kv_b_proj")), None)
        if folded is not None:
            raise OrreryError(
                f"the adapter changes '{folded}', which serving folds into the queries to keep latents alone; merge it into the model"
            )
        if isinstance(adapter.config, Reft) and adapter.config.positions == "critical":
            raise OrreryError(
                "the adapter edits critical positions, which are found by reading the whole text first; serving reads a text in pieces, so "
                "run it by `tune.critical.continue_edited`, or train it with positions=all or first"
            )
        for parameter in adapter.parameters():
            parameter.requires_grad_(False)
        self._by_name[name] = self._slots.add(adapter)
        self._fingerprints[name] = _fingerprint(adapter)

    def use_by_default(self, name: str) -> None:
        """Let requests that name no adapter go through this one.

        Raises:
            OrreryError: there is none of that name.
        """
        self._slots.default = self._slot(name)

    def remove(self, name: str) -> None:
        """Take it away; a model without adapters computes as it did before the first.

        Raises:
            OrreryError: there is none of that name.
        """
        self._slots.remove(self._slot(name))
        del self._by_name[name], self._fingerprints[name]

    def merge(self, name: str) -> None:
        """Make it part of the model's own weights, which must be floats, and take it away.

        Raises:
            OrreryError: there is none of that name, or it cannot be merged (`merge_adapters`).
        """
        adapter = self._slots.adapters[self._slot(name)]
        self.remove(name)
        merge_adapter(self.model, adapter)

    def check(self, name: str | None) -> None:
        """Refuse a request for an adapter that is not loaded.

        Raises:
            OrreryError: there is none of that name.
        """
        if name is not None:
            self._slot(name)

    def fingerprint(self, name: str | None) -> bytes:
        """What tells its numbers from any other adapter's, 32 bytes (none: no bytes): part of the key of whatever is cached.

        Raises:
            OrreryError: there is none of that name.
        """
        self.check(name)
        slots = {slot: known for known, slot in self._by_name.items()}
        name = slots.get(self._slots.default) if name is None else name  # type: ignore[no-matching-overload]
        return b"" if name is None else self._fingerprints[name]

    def virtual_tokens(self, name: str | None) -> int:
        """Placeholders that a sequence through it (None: the default) begins with, for its virtual tokens.

        Raises:
            OrreryError: there is none of that name.
        """
        return self._slots.virtual_tokens(self._slots.default if name is None else self._slot(name))

    def of_tokens(self, names: Sequence[str | None], lengths: Sequence[int]) -> Tensor | None:
        """What `Context.adapters` takes for sequences of these lengths, each through its adapter or (None) the model's default; (T,).

        None where no sequence names one.

        Raises:
            OrreryError: there is none of a name.
        """
        if all(name is None for name in names):
            return None
        slots = [self._slots.default if name is None else self._slot(name) for name in names]
        return slots_of_tokens(slots, lengths, device=self.model.device)

    def _slot(self, name: str) -> int:
        if name not in self._by_name:
            raise OrreryError(
                f"no adapter '{name[:LONGEST_NAME]}' is loaded; loaded are {', '.join(self.names) or 'none'}."
                f"{suggest(name[:LONGEST_NAME], self.names)}"
            )
        return self._by_name[name]

    def _check_name(self, name: str) -> None:
        if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME or name != name.strip():
            raise OrreryError(
                f"{name[:LONGEST_NAME]!r} is no name for an adapter: take 1 to {LONGEST_NAME} printable characters"
            )
        if name in self._by_name:
            raise OrreryError(f"an adapter '{name}' is loaded already; remove it first, or take another name")


def put_beside(lm: LM, folder: Path, name: str) -> None:
    """Load an adapter beside the model of `lm`, and take its chat format where the model has none: it was trained with that."""
    Adapters.of(lm.model).load(name, folder)
    if lm.chat is None and read_templates(folder):
        lm.chat = ChatFormat.load(folder, lm.tokenizer)


def named_folders(settings: Iterable[str]) -> dict[str, Path]:
    """What NAME=PATH settings of a command line say.

    Raises:
        OrreryError: one of another form, or a name given twice.
    """
    found: dict[str, Path] = {}
    for setting in settings:
        name, sign, path = setting.partition("=")
        if not sign or not name or not path or name in found:
            raise OrreryError(
                f"cannot read the adapter '{setting}'; write NAME=PATH, each name once, for example polite=out/polite"
            )
        found[name] = Path(path)
    return found


def _fingerprint(adapter: Adapter) -> bytes:
    digest = hashlib.sha256(json.dumps(to_dict(adapter.config), sort_keys=True).encode())
    for name, part in adapter.parts.items():
        digest.update(f"{name} {part.extra_repr()} {getattr(part, 'scale', 0.0)!r}\n".encode())
        for tensor in (*part.parameters(), *part.buffers()):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
