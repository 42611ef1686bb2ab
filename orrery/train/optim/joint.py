"""Several optimisers as one: Muon for matrices and AdamW for the rest, stepped and saved together.

Its state is a flat dictionary of tensors named by parameter ("layers.0.mlp.up_proj.weight/exp_avg"), which
goes into a safetensors file as it is, and a JSON-able dictionary for all that is no tensor. No pickle.
Loading restores every bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError


class JointOptimizer:
    """The optimiser-like object of the training step.

    Args:
        parts: optimisers over disjoint parameters; each group carries "lr_scale" (its peak rate / `lr`).
        names: id(parameter) -> name, for all parameters.
        lr: the peak learning rate that groups are scaled from.
    """

    def __init__(self, parts: list[torch.optim.Optimizer], names: dict[int, str], *, lr: float) -> None:
        self.parts = parts
        self.names = names
        self.lr = lr

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts, live: setting a group's "lr" takes effect."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every parameter under optimisation."""
        return [p for group in self.param_groups for p in group["params"]]

    def set_lr(self, multiplier: float) -> float:
        """Set each group's rate to lr * lr_scale * multiplier; returns lr * multiplier, the rate to log."""
        for group in self.param_groups:
            group["lr"] = self.lr * group["lr_scale"] * multiplier
        return self.lr * multiplier

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients that are there; a parameter without one is left alone."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All state: tensors by "parameter/quantity" (no copies), and JSON-able group settings."""
        tensors = {
            f"{self.names[id(p)]}/{key}": value
            for part in self.parts
            for p, state in part.state.items()
            for key, value in state.items()
        }
        groups = [
            {key: list(v) if isinstance(v, tuple) else v for key, v in group.items() if key != "params"}
            | {"params": [self.names[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        return tensors, {"kinds": [type(part).__name__ for part in self.parts], "groups": groups}

    def load_state_tensors(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Restore what `state_tensors` gave, bit for bit.

        Raises:
            OrreryError: the state is of another optimiser or another model.
        """
        here = self.state_tensors()[1]
        there = [group["params"] for group in scalars["groups"]]
        if scalars["kinds"] != here["kinds"] or there != [group["params"] for group in here["groups"]]:
            raise OrreryError(
                f"this optimiser state is of {scalars['kinds']} over other parameters than {here['kinds']} here; "
                "resume with the recipe the checkpoint was made with"
            )
        states: dict[str, dict[str, Tensor]] = {}
        for full, value in tensors.items():
            name, _, key = full.rpartition("/")
            states.setdefault(name, {})[key] = value
        if strangers := states.keys() - {name for group in there for name in group}:
            raise OrreryError(
                f"this optimiser state speaks of weights not under training: {', '.join(sorted(strangers))}"
            )
        for part in self.parts:
            part.state.clear()
            for p in (
                p for group in part.param_groups for p in group["params"] if self.names[id(p)] in states
            ):
                saved_state = states[self.names[id(p)]]
                part.state[p] = {k: v.detach().clone().to(_home(part, p, v)) for k, v in saved_state.items()}
        for group, saved in zip(self.param_groups, scalars["groups"], strict=True):
            for key, value in saved.items():
                if key != "params":
                    group[key] = tuple(value) if isinstance(value, list) else value

    def state_dict(self) -> dict[str, Any]:
        """`state_tensors` as one dictionary."""
        tensors, scalars = self.state_tensors()
        return {"tensors": tensors, "scalars": scalars}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.load_state_tensors(state["tensors"], state["scalars"])

    def state_bytes(self) -> int:
        """Bytes of optimiser state held now (Adam: 8 per fp32 weight, and 4 per tensor)."""
        return sum(t.numel() * t.element_size() for t in self.state_tensors()[0].values())


def _home(part: torch.optim.Optimizer, p: nn.Parameter, value: Tensor) -> torch.device:
    """Where a quantity lives: with its parameter, but a step count on the CPU unless a kernel reads it."""
    fused = any(group.get("fused") for group in part.param_groups)
    return p.device if value.ndim or fused else torch.device("cpu")
