"""Which parameter is of which sort, since optimisers and weight decay treat them apart.

    matrices    hidden weights, 2-D, or 3-D stacks of expert matrices: decayed, and Muon's domain
    embeddings  tables indexed by token, position or distance, and the head, whose rows are tokens: one row has
                no more to do with the next than two words have, so there is no matrix to make orthogonal
    vectors     norms, biases, sinks, scalars, the taps of a short convolution (a few numbers for each channel by itself):
                never decayed, since they have no scale to keep in check

(Brown et al. 2020, appendix B; Jordan et al. 2024 for what Muon leaves to AdamW.)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from orrery.model.positions import LearnedPositions
from orrery.model.short_conv import ShortConv


@dataclass(frozen=True)
class ParameterGroups:
    """Trainable parameters by sort, name -> parameter, in the model's order; a tied weight appears once."""

    matrices: dict[str, nn.Parameter]
    embeddings: dict[str, nn.Parameter]
    vectors: dict[str, nn.Parameter]


def parameter_groups(model: nn.Module) -> ParameterGroups:
    """Sort the parameters of `model` that require gradients; a head is known by its name, `lm_head`."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | LearnedPositions)}
    taps = {id(m.weight) for m in model.modules() if isinstance(m, ShortConv)}
    groups = ParameterGroups({}, {}, {})
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in tables or (parameter.ndim >= 2 and "lm_head" in name.split(".")):
            groups.embeddings[name] = parameter
        elif parameter.ndim >= 2 and id(parameter) not in taps:
            groups.matrices[name] = parameter
        else:
            groups.vectors[name] = parameter
    return groups
