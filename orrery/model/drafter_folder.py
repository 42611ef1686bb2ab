"""A drafter on disk: drafter.json (what it is, and which model it was trained for) and drafter.safetensors.

save_drafter(net, folder, tokenizer=fingerprint)
net = load_drafter(folder, model, tokenizer=fingerprint)
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save as to_safetensors

from orrery.kit.config import config, resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write
from orrery.kit.json import read_object
from orrery.kit.model_folder import Weights
from orrery.kit.safetensors import open_safetensors
from orrery.kit.untrusted import inside
from orrery.model.decoder import Decoder
from orrery.model.drafters import DraftNet, NetConfig, make_net
from orrery.model.shell import shell
from orrery.model.weights import not_finite, read_tensor

CONFIG, WEIGHTS = "drafter.json", "drafter.safetensors"


@config
class DrafterConfig:
    """The content of drafter.json.

    Attributes:
        net: the network.
        vocab_size, d_model, tokenizer: of the model it was trained for; the last is the tokenizer's fingerprint.
    """

    net: NetConfig
    vocab_size: int
    d_model: int
    tokenizer: str


def save_drafter(net: DraftNet, folder: Path, *, tokenizer: str) -> None:
    """Write both files into `folder` (call it inside `kit.files.atomic_folder`)."""
    shape = net.model.cfg
    described = DrafterConfig(
        net=net.cfg, vocab_size=shape.vocab_size, d_model=shape.d_model, tokenizer=tokenizer
    )
    weights = {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}
    atomic_write(folder / WEIGHTS, to_safetensors(weights, metadata={"format": "pt"}))
    atomic_write(folder / CONFIG, json.dumps(to_dict(described), indent=2) + "\n")


def load_drafter(folder: Path, model: Decoder, *, tokenizer: str) -> DraftNet:
    """Open a drafter for `model`.

    Raises:
        OrreryError: files are missing or damaged, or the drafter was trained for another model or tokenizer.
    """
    if not (folder / CONFIG).is_file():
        raise OrreryError(
            f"'{folder}' holds no drafter (there is no {CONFIG}); train one with: orrery train recipes/drafter.yaml"
        )
    described: DrafterConfig = resolve(
        DrafterConfig,
        read_object(inside(folder, CONFIG), what="a drafter's description"),
        where=str(folder / CONFIG),
    )
    cfg = model.cfg
    if (described.vocab_size, described.d_model) != (
        cfg.vocab_size,
        cfg.d_model,
    ) or described.tokenizer != tokenizer:
        raise OrreryError(
            f"the drafter in '{folder}' was trained for another model (vocabulary {described.vocab_size}, width "
            f"{described.d_model}; this one has {cfg.vocab_size} and {cfg.d_model}, and its tokenizer must be the same); train one for it"
        )
    net = shell(lambda: make_net(described.net, model))
    wanted = {name: tensor.shape for name, tensor in net.state_dict().items()}
    with open_safetensors(inside(folder, WEIGHTS)) as file:
        found = {name: entry.shape for name, entry in file.tensors.items()}
        wrong = sorted(
            name
            for name in wanted.keys() | found.keys()
            if tuple(wanted.get(name, ())) != tuple(found.get(name, ()))
        )
        if wrong:
            raise OrreryError(
                f"the weights in '{folder}' are not those its {CONFIG} asks for ({', '.join(wrong[:5])}); train the drafter again"
            )
        weights = Weights(dict.fromkeys(found, file))
        state = {name: read_tensor(weights, name).to(model.device) for name in found}
    if not_finite(state):
        raise OrreryError(f"the drafter in '{folder}' holds numbers that are not finite; train it again")
    net.load_state_dict(state, strict=True, assign=True)
    return net.eval().requires_grad_(False)
