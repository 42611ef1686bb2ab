from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orrery.kit.errors import OrreryError
from orrery.model.word_vectors.similarity import WordVectors
from orrery.model.word_vectors.text_format import read_vectors, write_vectors

word = st.text(st.characters(exclude_characters=" \n", codec="utf-8"), min_size=1, max_size=8)
number = st.floats(-(2.0**99), 2.0**99, width=32)


def test_both_formats_are_read(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_text("the 0.5 -1e-2\nof 1 2\n")
    (tmp_path / "w2v.txt").write_text("2 2\nthe 0.5 -1e-2 \nof 1 2\r\n")
    for name in ("glove.txt", "w2v.txt"):
        vectors = read_vectors(tmp_path / name)
        assert vectors.words == ("the", "of")
        assert np.allclose(vectors.matrix, [[0.5, -0.01], [1, 2]]) and vectors.matrix.dtype == np.float32


def test_what_is_written_is_as_published(tmp_path: Path) -> None:
    vectors = WordVectors(("the", "of"), np.array([[0.1, -2], [3e-9, 4]], dtype=np.float32))
    write_vectors(vectors, tmp_path / "g.txt")
    assert (tmp_path / "g.txt").read_text() == "the 0.100000001 -2\nof 3.00000003e-09 4\n"
    write_vectors(vectors, tmp_path / "w.txt", header=True)
    assert (tmp_path / "w.txt").read_text().startswith("2 2\nthe 0.1")


@settings(max_examples=60, deadline=None)
@given(words=st.lists(word, min_size=1, max_size=6, unique=True), header=st.booleans(), data=st.data())
def test_a_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], header: bool, data: st.DataObject
) -> None:
    dim = data.draw(st.integers(1 if header else 2, 5))
    matrix = data.draw(arrays(np.float32, (len(words), dim), elements=number))
    path = tmp_path_factory.mktemp("vectors") / "v.txt"
    write_vectors(WordVectors(tuple(words), matrix), path, header=header)
    back = read_vectors(path)
    assert back.words == tuple(words) and (back.matrix == matrix).all()


def test_words_with_spaces_and_separators_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes("the 1 2\n. . . 3 4\na\x85b 5 6\na\u00a0b 7 8\n".encode())
    assert read_vectors(path).words == ("the", ". . .", "a\x85b", "a\u00a0b")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 vectors"),
        (b"3 2\n", "0 vectors of the 3 its first line promises"),
        (b"3 2\na 1 2\nb 1 2\n", "2 vectors of the 3"),
        (b"1 2\na 1 2\nb 1 2\n", "2 vectors of the 1"),
        (b"99999999999 99999999999\na 1\n", "line 2"),
        (b"a 1 2\nb 1\n", "line 2 of .* is not a word and 2 numbers"),
        (b"a 1 2\n\nb 1 2\n", "line 2"),
        (b"a 1 2\n 1 2\n", "line 2"),
        (b"word\n", "line 1 of .* is not a word and some numbers"),
        (b"a 1 2\nb 1 x\n", "line 2 of .* other than a number among its last 2"),
        (b"a 1 2\nb 1 1_0\n", "other than a number"),
        (b"a 1 2\nb nan 2\n", "vector of 'b' .* not finite"),
        (b"a 1 2\nb 1e99 2\n", "vector of 'b' .* not finite"),
        (b"a 1 2\na 3 4\n", "line 2 of .* 'a' a second vector"),
        (b"a 1 2\n\xff\xfe 3 4\n", "line 2 of .* not UTF-8"),
        (b"a 1 2\n" + b"x" * (1 << 20) + b" 1 2\n", "line 2 of .* over 1048576 bytes"),
    ],
)
def test_a_damaged_file_names_the_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(OrreryError, match=says):
        read_vectors(path)


def test_repeated_words_can_be_passed_over(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("3 2\na 1 2\na 3 4\nb 5 6\n")
    vectors = read_vectors(tmp_path / "v.txt", repeated="first")
    assert vectors.words == ("a", "b") and vectors.vector("a").tolist() == [1, 2]


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="cannot read"):
        read_vectors(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("words", "matrix"),
    [
        (("a b", "c"), [[1, 2], [3, 4]]),
        (("a\nb", "c"), [[1, 2], [3, 4]]),
        (("", "c"), [[1, 2], [3, 4]]),
        (("a", "c"), [[1, float("nan")], [3, 4]]),
        (("a", "c"), [[1], [3]]),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, words: tuple[str, ...], matrix: list[list[float]]
) -> None:
    with pytest.raises(OrreryError, match="read back"):
        write_vectors(WordVectors(words, np.array(matrix, dtype=np.float32)), tmp_path / "v.txt")
    assert not list(tmp_path.iterdir())
