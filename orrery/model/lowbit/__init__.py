"""Layers over block-quantised weights that stay quantised in memory, and the kernels that multiply them.

kinds      what the block formats mean          formats    a file's bytes <-> their fields
pack       the order in memory                  cpp, build, native    our kernel, compiled once on this machine
numba_kernel, torch_kernel    where there is no compiler
linear     the layers                           ops, attention    what is between them
tape       a step recorded and replayed         speed      how fast it is here
"""

from __future__ import annotations

from orrery.model.lowbit.choice import Backend, Report, backend, backend_report
from orrery.model.lowbit.kinds import KINDS
from orrery.model.lowbit.linear import ActivationBits, QuantEmbedding, QuantLinear, set_activation_bits
from orrery.model.lowbit.speed import Speed, measure_bandwidth, speed_report

__all__ = [
    "KINDS",
    "ActivationBits",
    "Backend",
    "QuantEmbedding",
    "QuantLinear",
    "Report",
    "Speed",
    "backend",
    "backend_report",
    "measure_bandwidth",
    "set_activation_bits",
    "speed_report",
]
