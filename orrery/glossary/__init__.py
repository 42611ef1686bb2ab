"""EXPLAIN: every term of the field, with its definition, its formula, the code that makes it run, and an exhibit.

`orrery explain TERM` prints a term; README.md says how to add one. Importing this imports no torch.
"""

from __future__ import annotations

from orrery.glossary.coverage import coverage
from orrery.glossary.entries import Entry, index, load_entry
from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.explain import Explanation, explain

__all__ = ["Entry", "Exhibit", "Explanation", "Grid", "Series", "coverage", "explain", "index", "load_entry"]
