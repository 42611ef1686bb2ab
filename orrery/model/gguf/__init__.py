"""Models inside GGUF files: what an architecture is called there, reading, writing."""

from __future__ import annotations
