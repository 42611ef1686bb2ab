"""The Triton kernel against torch: on a GPU, or with TRITON_INTERPRET=1 in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
import torch.nn.functional as F

from orrery.kit.errors import OrreryError
from orrery.model.kernels_triton import rms_norm
from orrery.model.norm import RMSNorm

HAVE = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
runs = pytest.mark.skipif(
    not HAVE or not (torch.cuda.is_available() or INTERPRETED),
    reason="needs Triton and a GPU (or TRITON_INTERPRET=1)",
)
DEVICE = "cpu" if INTERPRETED else "cuda"


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5, 100), (7, 640), (2, 1024)])
def test_it_is_the_norm_of_the_model(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=g).to(dtype), torch.randn(shape[-1], generator=g)
    ours = rms_norm(x.to(DEVICE), weight.to(DEVICE), 1e-6).cpu()
    want = F.rms_norm(x.float(), shape[-1:], weight, 1e-6).to(dtype)
    assert ours.dtype == dtype and ours.shape == x.shape
    torch.testing.assert_close(
        ours,
        want,
        atol=2e-6 if dtype == torch.float32 else 2e-2,
        rtol=1e-5 if dtype == torch.float32 else 1e-2,
    )


@runs
def test_gemmas_offset_and_rows_that_are_not_contiguous() -> None:
    norm = RMSNorm(64, 1e-6, unit_offset=True)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(64, 9, generator=torch.Generator().manual_seed(1)).T
    ours = rms_norm(x.to(DEVICE), norm.weight.detach().to(DEVICE), 1e-6, unit_offset=True).cpu()
    torch.testing.assert_close(ours, norm(x).detach(), atol=2e-6, rtol=1e-5)


@pytest.mark.skipif(HAVE, reason="Triton is installed")
def test_without_triton_it_says_so() -> None:
    with pytest.raises(OrreryError, match="needs the package 'triton'"):
        rms_norm(torch.ones(2, 4), torch.ones(4))
