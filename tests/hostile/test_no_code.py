"""No path of the package runs or imports anything from a model folder, or from the folder a person stands in."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import seeds
from tests.hostile.jail import ROOT

BOMB = "import pathlib\npathlib.Path(__file__).with_name('canary').touch()\nraise SystemExit('code from the folder ran')\n"
NAMES = ["json", "torch", "safetensors", "tokenizers", "numpy", "orrery", "yaml", "modeling_llama", "configuration_llama", "tokenization_x", "sitecustomize", "conftest", "__init__", "re"]  # fmt: skip


def trap(folder: Path) -> Path:
    """Modules that say so when they are imported, as source, as packages and as byte code of other modules' names."""
    for name in NAMES:
        (folder / f"{name}.py").write_text(BOMB)
    for name in ("pydantic", "jinja2"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(BOMB)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / f"json.{sys.implementation.cache_tag}.pyc").write_bytes(b"\0" * 64)
    return folder


@pytest.mark.parametrize("cwd", ["in the folder", "elsewhere"])
def test_a_folder_full_of_python_is_data(tmp_path: Path, cwd: str) -> None:
    """The command as it is installed: a script of its own folder, run where the traps are."""
    model = trap(seeds.model_folder(tmp_path / "model"))
    (model / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    script = tmp_path / "bin" / "orrery"
    script.parent.mkdir()
    script.write_text("import sys\nfrom orrery.cli import main\nsys.exit(main())\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSTARTUP")}
    done = subprocess.run(
        [sys.executable, str(script), "plan", ".", "--json"] if cwd == "in the folder" else [sys.executable, str(script), "plan", str(model), "--json"],
        cwd=model if cwd == "in the folder" else tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "code from the folder ran" not in done.stdout + done.stderr and not list(tmp_path.rglob("canary"))
    assert json.loads(done.stdout)


def test_loading_puts_nothing_on_the_path(tmp_path: Path) -> None:
    import orrery

    model = trap(seeds.model_folder(tmp_path / "model"))
    before, path = set(sys.modules), list(sys.path)
    lm = orrery.load(model)
    assert lm.generate([1, 2], max_tokens=2) is not None
    assert sys.path == path and not list(tmp_path.rglob("canary"))
    new = {name: getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - before}
    assert not [name for name, file in new.items() if file and str(tmp_path) in file]


def test_the_package_has_no_way_to_run_what_it_reads() -> None:
    """Every call in the source: none runs text, unpickles, or imports by a name that comes from a file."""
    found = []
    own = ROOT / "orrery" / "glossary" / "exhibits"  # a table of its own modules
    jailed = ROOT / "orrery" / "kit" / "sandbox" / "inside"  # runs generated code: in a jail, never here
    for file in sorted(file for file in (ROOT / "orrery").rglob("*.py") if file.parent not in (own, jailed)):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            plain = node.args and isinstance(node.args[0], ast.Constant | ast.Name)
            if name in (
                "exec",
                "eval",
                "compile",
                "__import__",
                "os.system",
                "os.popen",
                "runpy.run_path",
                "torch.load",
                "pickle.load",
                "pickle.loads",
                "marshal.loads",
                "np.load",
                "numpy.load",
                "importlib.util.spec_from_file_location",
            ):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {name}")
            if name in ("import_module", "importlib.import_module") and not plain:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
            if any(word.arg == "shell" for word in node.keywords):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: a shell")
    assert not found, found
