from __future__ import annotations

from pathlib import Path

import pytest

from orrery.data.source import (
    FilesSource,
    Meter,
    StdlibSource,
    list_files,
    read_documents,
    read_text,
    stdlib_files,
    stdlib_root,
)
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.md", "sub/c.py", ".hidden/d.txt", ".e.txt", "picture.png", "sub/LICENSE"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text of {name}")
    return tmp_path


def names(found: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found]


def test_a_folder_gives_its_readable_files_in_order(folder: Path) -> None:
    assert names(list_files([str(folder)]), folder) == ["a.md", "b.txt", "sub/c.py"]


def test_patterns_and_repeats(folder: Path) -> None:
    found = list_files(
        [str(folder / "**/*.py"), str(folder / "*.txt"), str(folder / "sub"), str(folder / "b.txt")]
    )
    assert names(found, folder) == ["sub/c.py", "b.txt"]


def test_a_file_without_suffix_is_read_when_it_is_named(folder: Path) -> None:
    assert names(list_files([str(folder / "sub/LICENSE")]), folder) == ["sub/LICENSE"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("b.text", "no file or folder .*Did you mean 'b.txt'"),
        ("nowhere/b.txt", "no file or folder"),
        ("*.rst", r"no readable file matches .*\(0 matches"),
        ("*.png", r"no readable file matches .*\(1 matches"),
        ("picture.png", "cannot read"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, path: str, words: str) -> None:
    with pytest.raises(OrreryError, match=words):
        list_files([str(folder / path)])


def test_folders_without_text(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="it is empty"):
        list_files([str(tmp_path)])
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(OrreryError, match=r"only \.png"):
        list_files([str(tmp_path)])


def test_patterns_reach_below_and_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x.txt", "a/y.txt", "a/b/z.txt", ".hidden.txt", "a/b/none.png"):
        (tmp_path / name).write_text("text")
    for name in ("one", "two"):  # 2^40 paths to one that follows them
        (tmp_path / name).symlink_to(".")
    for pattern, names in (
        ("*.txt", ["x.txt"]),
        ("**/*.txt", ["a/b/z.txt", "a/y.txt", "x.txt"]),
        ("**", ["a/b/z.txt", "a/y.txt", "x.txt"]),
        ("a/[a-c]/*", ["a/b/z.txt"]),
        (".hid*", [".hidden.txt"]),
    ):
        found = [file.relative_to(tmp_path).as_posix() for file in list_files([str(tmp_path / pattern)])]
        assert found == names, pattern


def test_no_path_at_all() -> None:
    with pytest.raises(OrreryError, match="no text given"):
        list_files([])


def test_files_that_cannot_be_read_stop_the_run_or_are_told(folder: Path) -> None:
    (folder / "a.md").write_bytes(b"\xff")
    with pytest.raises(OrreryError, match=r"a\.md"):
        list(read_documents(FilesSource(paths=(str(folder),))))
    told: list[str] = []
    source = FilesSource(paths=(str(folder),), unreadable="skip")
    documents = list(read_documents(source, None, lambda path, error: told.append(path)))
    assert [Path(path).name for path in told] == ["a.md"] and len(documents) == 2


def test_the_meter_ends_at_its_total(folder: Path) -> None:
    meter = Meter()
    documents = list(read_documents(FilesSource(paths=(str(folder),)), meter))
    assert meter.done == meter.total == sum(len(document.text) for document in documents)


def test_the_standard_library_without_its_tests() -> None:
    root, files = stdlib_root(), stdlib_files()
    inside = [file.relative_to(root).as_posix() for file in files]
    assert {"json/decoder.py", "asyncio/tasks.py", "this.py"} <= set(inside)
    assert inside == sorted(inside)
    assert not any(
        part in name.split("/") for name in inside for part in ("test", "tests", "idle_test", "site-packages")
    )
    assert len(files) > 400 and sum(file.stat().st_size for file in files) > 6_000_000


def test_a_document_of_the_library_is_named_by_its_place_in_it() -> None:
    ids = {document.name for document in read_documents(StdlibSource())}
    assert "json/decoder.py" in ids


def test_sources_in_recipes() -> None:
    from orrery.data.source import Source

    assert resolve(Source, {"kind": "files", "paths": ["a.txt"]}) == FilesSource(paths=("a.txt",))
    with pytest.raises(OrreryError, match="stdlib"):
        resolve(Source, {"kind": "stdlb"})


def test_the_whole_text_of_one_file(folder: Path) -> None:
    long = "A line.\n" * 100_000
    (folder / "b.txt").write_text(long)
    assert read_text(folder / "b.txt") == long
    for path in (folder, folder / "rows.jsonl"):
        (folder / "rows.jsonl").write_text("{}")
        with pytest.raises(OrreryError, match="not one plain text file"):
            read_text(path)
    with pytest.raises(OrreryError, match="no file or folder"):
        read_text(folder / "nothing.txt")
