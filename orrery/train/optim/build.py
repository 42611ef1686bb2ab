"""From a recipe's optimiser to the object the training step uses.

    optimizer = build_optimizer(model, AdamW(lr=3e-4))
    optimizer.set_lr(lr_at(schedule, step, total))
    result = guarded_step(optimizer, max_norm=1.0)
    tensors, scalars = optimizer.state_tensors()

The tensors go into a safetensors file, the scalars into JSON. Build it on the model itself, not on what
torch.compile returns.
"""

from __future__ import annotations

import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.train.optim import config as c
from orrery.train.optim.adafactor import Adafactor
from orrery.train.optim.adagrad import Adagrad
from orrery.train.optim.adam import Adam, AdamW
from orrery.train.optim.groups import parameter_groups
from orrery.train.optim.joint import JointOptimizer
from orrery.train.optim.muon import Muon
from orrery.train.optim.rmsprop import RMSprop
from orrery.train.optim.sgd import SGD


def build_optimizer(model: nn.Module, cfg: c.OptimizerConfig) -> JointOptimizer:
    """The optimiser of `cfg` over the trainable parameters of `model`, weight decay on the right ones.

    Raises:
        OrreryError: the model has no trainable parameter, or none that Muon can take.
    """
    sorts = parameter_groups(model)
    names = {id(p): name for name, p in model.named_parameters()}
    matrices, tables, vectors = (list(g.values()) for g in (sorts.matrices, sorts.embeddings, sorts.vectors))
    if not matrices and not tables and not vectors:
        raise OrreryError("the model has no trainable parameter; unfreeze some or add an adapter")
    decayed, plain = matrices + tables * cfg.decay_embeddings, tables * (not cfg.decay_embeddings) + vectors
    if not isinstance(cfg, c.Muon):
        return JointOptimizer(
            [_single(cfg, _groups(cfg.weight_decay, decayed, plain, scale=1.0))], names, lr=cfg.lr
        )
    if not matrices:
        raise OrreryError("muon needs hidden weight matrices and this model has none; choose adamw")
    muon = Muon(
        _groups(cfg.weight_decay, matrices, [], scale=1.0), lr=cfg.lr, momentum=cfg.momentum, nesterov=cfg.nesterov,
        ns_steps=cfg.ns_steps, ns_dtype=cfg.ns_dtype, scale=cfg.scale,
    )  # fmt: skip
    rest = _groups(cfg.weight_decay, decayed[len(matrices) :], plain, scale=(cfg.adam_lr or cfg.lr) / cfg.lr)
    parts: list[torch.optim.Optimizer] = [muon]
    if rest:
        parts.append(
            _single(c.AdamW(lr=cfg.adam_lr or cfg.lr, betas=cfg.betas, eps=cfg.eps, fused=cfg.fused), rest)
        )
    return JointOptimizer(parts, names, lr=cfg.lr)


def _groups(
    decay: float, decayed: list[nn.Parameter], plain: list[nn.Parameter], *, scale: float
) -> list[dict]:
    """A parameter may have a rate of its own, `lr_scale` times the others' (LoRA+)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for params, wd in ((decayed, decay), (plain, 0.0)):
        for parameter in params:
            own = scale * getattr(parameter, "lr_scale", 1.0)
            groups.setdefault((wd, own), []).append(parameter)
    return [{"params": params, "weight_decay": wd, "lr_scale": own} for (wd, own), params in groups.items()]


def _single(cfg: c.OptimizerConfig, groups: list[dict]) -> torch.optim.Optimizer:
    match cfg:
        case c.SGD():
            return SGD(groups, lr=cfg.lr, momentum=cfg.momentum, nesterov=cfg.nesterov)
        case c.Adagrad():
            return Adagrad(groups, lr=cfg.lr, eps=cfg.eps)
        case c.RMSprop():
            return RMSprop(groups, lr=cfg.lr, alpha=cfg.alpha, eps=cfg.eps, momentum=cfg.momentum)
        case c.Adam():
            return Adam(groups, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps)
        case c.AdamW() if cfg.fused and _fused_works(groups):
            return torch.optim.AdamW(groups, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps, fused=True)
        case c.AdamW():
            return AdamW(groups, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps)
        case c.Adafactor():
            return Adafactor(
                groups,
                lr=cfg.lr,
                beta2_decay=cfg.beta2_decay,
                eps=cfg.eps,
                clip=cfg.clip,
                relative=cfg.relative,
            )
    raise AssertionError(cfg)


def _fused_works(groups: list[dict]) -> bool:
    """torch has fused AdamW kernels for floating-point parameters on these devices."""
    params = [p for group in groups for p in group["params"]]
    return all(p.device.type in ("cpu", "cuda", "mps", "xpu") and p.is_floating_point() for p in params)
