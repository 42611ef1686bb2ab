"""Our own program in the jail: the files of `inside`, compiled once, made into modules there without a file system."""

from __future__ import annotations

from functools import cache
from importlib import resources

from orrery.kit.sandbox import inside

_ORDER = ("codec", "confine", "report", "supervisor", "worker", "checker", "main")
COMPILE = """
import base64, json, marshal, sys
codes = [(name, compile(text, "<" + name + ">", "exec", optimize=2)) for name, text in json.loads(sys.stdin.read())]
program = base64.b64encode(marshal.dumps(codes)).decode()
"""
"""For the interpreter that will run it: sources on standard input -> `program`, in that version's own byte code, without docstrings."""
START = f"""
import binascii, json, marshal, sys, types
for name in ("orrery", "orrery.kit", "orrery.kit.sandbox", {inside.__name__!r}):
    sys.modules[name] = types.ModuleType(name)
for name, code in marshal.loads(binascii.a2b_base64(sys.argv[1])):
    sys.modules[name] = types.ModuleType(name)
    exec(code, sys.modules[name].__dict__)
sys.modules[{inside.__name__ + ".main"!r}].enter(json.loads(sys.argv[2]))
"""
"""What `python -c` is given, with the program and the plan as its arguments. None of it is secret."""


@cache
def sources() -> list[tuple[str, str]]:
    """Module names and texts, in the order in which they import each other."""
    package = inside.__name__
    return [(f"{package}.{name}", (resources.files(inside) / f"{name}.py").read_text()) for name in _ORDER]
