"""Which of the three kernels multiplies here: the compiled one, else numba's, else torch's.

Chosen once, at the first use. ORRERY_LOWBIT = c++ | numba | torch in the environment overrides the choice.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

from torch import Tensor

from orrery.kit.errors import OrreryError, suggest
from orrery.model.lowbit.build import BuildError, compiler, machine_flags
from orrery.model.lowbit.formats import tq2_from_tq1
from orrery.model.lowbit.kinds import KINDS
from orrery.model.lowbit.matrix import DenseMatrix, Matrix, PackedMatrix

Backend = Literal["c++", "numba", "torch"]
BACKENDS: tuple[Backend, ...] = ("c++", "numba", "torch")


@dataclass(frozen=True)
class Report:
    """What was chosen and why.

    Attributes:
        detail: the instruction set and the compiler, or the library.
        reason: why a faster one was not taken; empty for c++.
    """

    backend: Backend
    detail: str
    reason: str

    def __str__(self) -> str:
        return f"low-bit products by {self.backend} ({self.detail})" + (
            f"; {self.reason}" if self.reason else ""
        )


@cache
def backend_report() -> Report:
    """Choose the kernel (compiling it if need be) and say why.

    Raises:
        OrreryError: ORRERY_LOWBIT names none of them, or one that cannot run here.
    """
    asked = os.environ.get("ORRERY_LOWBIT")
    if asked and asked not in BACKENDS:
        raise OrreryError(
            f"ORRERY_LOWBIT is '{asked}', but it must be one of {', '.join(BACKENDS)}.{suggest(asked, BACKENDS)}"
        )
    reasons = []
    for name in [cast(Backend, asked)] if asked else BACKENDS:
        try:
            detail = _try(name)
        except (BuildError, ImportError) as error:
            reasons.append(f"{name} is not available: {error}")
        else:
            return Report(name, detail, "; ".join(reasons) or ("asked for by ORRERY_LOWBIT" if asked else ""))
    raise OrreryError(f"ORRERY_LOWBIT asks for {asked}, but {reasons[0]}; unset it to use what there is")


def backend() -> Backend:
    """The kernel in use."""
    return backend_report().backend


def make_matrix(raw: Tensor, kind: str, *, using: Backend | None = None) -> Matrix:
    """Blocks of the file -> a matrix for a kernel, by default the one in use.

    A kind in `KINDS` stays as it is; TQ1_0 is packed as TQ2_0, which says the same; any other becomes dense float32.
    """
    if kind == "TQ1_0":
        matrix = make_matrix(tq2_from_tq1(raw), "TQ2_0", using=using)
        assert isinstance(matrix, PackedMatrix)
        matrix.packed.original = raw
        return matrix
    if kind not in KINDS:
        return DenseMatrix(raw, kind)
    match using or backend():
        case "c++":
            from orrery.model.lowbit.native import NativeMatrix as Kernel
        case "numba":
            from orrery.model.lowbit.numba_kernel import NumbaMatrix as Kernel
        case "torch":
            from orrery.model.lowbit.torch_kernel import TorchMatrix as Kernel
    return Kernel(raw, kind)


def _try(name: Backend) -> str:
    if name == "c++":
        from orrery.model.lowbit.native import instruction_set

        return f"{instruction_set()}, {compiler()} {' '.join(machine_flags())}"
    if name == "numba":
        import numba

        return f"numba {numba.__version__}"
    import torch

    return f"torch {torch.__version__}"
