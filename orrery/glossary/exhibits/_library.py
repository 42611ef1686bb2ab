"""Text that is on every machine: modules of the running Python's standard library, in a fixed order."""

from __future__ import annotations

import functools
import sysconfig
from pathlib import Path

_NAMES = """
argparse ast calendar cmd codecs configparser contextlib csv dataclasses datetime difflib doctest enum fractions ftplib
functools gettext heapq imaplib inspect locale mailbox optparse pathlib pdb pickle random shutil smtplib socket statistics
string subprocess tarfile tempfile textwrap threading tokenize traceback typing uuid zipfile
"""
MODULES = _NAMES.split()


@functools.cache
def texts() -> tuple[str, ...]:
    """One string a module, about 1.5 MB together; modules this Python lacks are left out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = (folder / f"{name}.py" for name in MODULES)
    return tuple(path.read_text(encoding="utf-8") for path in files if path.is_file())


def module(name: str) -> str:
    """The source of one module."""
    return (Path(sysconfig.get_paths()["stdlib"]) / f"{name}.py").read_text(encoding="utf-8")
