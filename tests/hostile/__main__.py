"""`python -m tests.hostile [ST]` runs the table of damaged and malicious files and prints the counts."""

from __future__ import annotations

import sys

from tests.hostile.table import main

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
