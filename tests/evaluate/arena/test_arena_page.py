"""The page in a real browser: keys, sides, names at the end, dark and light."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate.arena.app import PAGE, make_arena_app
from orrery.evaluate.arena.ballot import Arena
from orrery.evaluate.arena.votes import read_votes
from orrery.evaluate.judge.grading import Rubric
from orrery.evaluate.judge.questions import Answers, Question
from orrery.serve.http.lifecycle import Server
from orrery.serve.http.settings import ServerSettings
from tests.serve.http.conftest import until

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"


@contextmanager
def serving(path: Path, *, count: int = 3, rubric: Rubric | None = None, **settings: Any) -> Iterator[Any]:
    questions = [Question(id=str(i), turns=(f"request {i}", f"further {i}")) for i in range(count)]
    models = [
        Answers(model=name, texts={q.id: (f"{word} {q.id}\n  {HOSTILE}", "") for q in questions})
        for name, word in (("secret-one", "good"), ("secret-two", "poor"))
    ]
    arena = Arena(questions, models, path / "votes.jsonl", rubric=rubric)
    set_up = ServerSettings(**{"port": 0, "drain_s": 1.0, **settings})
    server = Server(make_arena_app(arena, settings=set_up), set_up)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield server
    finally:
        server.should_exit = True
        thread.join(20)
        arena.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """(server, **context) -> its page; at the end: nothing on the console, no host but the server."""
    opened: list[tuple[Any, list[str]]] = []

    def show(server: Any, **context: Any) -> Any:
        page = chromium.new_context(**context).new_page()
        page.set_default_timeout(20_000)
        faults: list[str] = []
        page.on("console", lambda m: faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request", lambda r: None if r.url.startswith((server.url, "data:")) else faults.append(r.url)
        )
        opened.append((page, faults))
        page.faults = faults
        page.goto(server.url)
        return page

    yield show
    for page, faults in opened:
        page.context.close()
        assert not faults


def begin(page: Any, name: str = "ann") -> None:
    page.locator("#name").fill(name)
    page.keyboard.press("Enter")
    page.locator("#ballot").wait_for()


def test_voting_by_the_keyboard(open_page: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        page = open_page(server)
        begin(page)
        seen = []
        for count in (1, 2, 3):
            page.get_by_text(f"{count} of 3", exact=True).wait_for()
            text = page.locator("body").inner_text()
            assert "secret" not in page.content() and "further" in text and "(no answer)" in text
            left = page.locator(".answer").first.inner_text()
            assert HOSTILE in left  # shown as it is
            seen.append(left.split()[0])
            page.keyboard.press("ArrowLeft" if left.startswith("good") else "ArrowRight")
        page.get_by_role("button", name="Show the names").click()
        page.get_by_text("secret-one").first.wait_for()
        assert page.title() == "Which answer is better?"
        rows = page.locator("tbody tr").all_inner_texts()
        assert rows[0].startswith("secret-one") and rows[0].split()[-3:] == ["3", "0", "0"]
    votes = read_votes(tmp_path / "votes.jsonl")
    assert {vote.winner for vote in votes} == {"secret-one"} and len(votes) == 3


def test_ties_skips_and_going_back(open_page: Any, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        page = open_page(server)
        begin(page)
        page.keyboard.press("t")
        page.get_by_text("2 of 3", exact=True).wait_for()
        page.keyboard.press("u")
        page.get_by_text("1 of 3", exact=True).wait_for()
        page.get_by_role("button", name="Both bad").click()
        page.get_by_text("2 of 3", exact=True).wait_for()
        page.keyboard.press("s")
        page.get_by_text("3 of 3", exact=True).wait_for()
        page.reload()  # nothing is lost
        begin(page)
        page.get_by_text("3 of 3", exact=True).wait_for()
        page.get_by_role("button", name="Right is better").click()
        page.get_by_text("all 3 done").wait_for()
    assert [vote.choice for vote in read_votes(tmp_path / "votes.jsonl")] == ["bad", "skip", "right"]


def test_grades_by_a_rubric(open_page: Any, tmp_path: Path) -> None:
    rubric = Rubric(criteria={"right": "is right", "clear": "is clear"})
    with serving(tmp_path, count=1, rubric=rubric) as server:
        page = open_page(server)
        begin(page)
        page.keyboard.press("ArrowLeft")
        page.get_by_text("rate both answers by right, clear").wait_for()
        page.faults.clear()  # the browser tells of the 400
        for side in ("left", "right"):
            for name in ("right", "clear"):
                page.locator(f"#{side}-grades input[name='{side}.{name}'][value='4']").check()
        page.keyboard.press("ArrowRight")  # within the grades: the last one goes up, nothing is voted
        page.keyboard.press("t")
        page.get_by_text("all 1 done").wait_for()
    (vote,) = read_votes(tmp_path / "votes.jsonl")
    assert vote.ratings[vote.left] == {"right": 4, "clear": 4} and vote.ratings[vote.right] == {
        "right": 4,
        "clear": 5,
    }
    assert vote.choice == "tie"


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_dark_and_light(open_page: Any, tmp_path: Path, scheme: str) -> None:
    def brightness() -> float:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(float(part) for part in colour[4:-1].split(",")[:3]) / 765

    with serving(tmp_path) as server:
        page = open_page(server, color_scheme=scheme, viewport={"width": 390, "height": 800})
        assert (brightness() > 0.5) == (scheme == "light")
        page.get_by_label("Dark or light").click()
        assert (brightness() > 0.5) == (scheme == "dark")
        page.reload()
        assert (brightness() > 0.5) == (scheme == "dark")
        begin(page)
        assert page.evaluate(
            "document.documentElement.scrollWidth <= innerWidth"
        )  # on a phone nothing sticks out


def test_what_the_server_tells_before_the_end(tmp_path: Path) -> None:
    def ask(path: str, body: Any, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        response = connection.getresponse()
        found = response.status, response.read().decode()
        connection.close()
        return found

    with serving(tmp_path) as server:
        status, told = ask("/api/ballot", {"annotator": "ann"})
        assert status == 200 and "secret" not in told
        assert ask("/api/results", {"annotator": "ann"})[0] == 400
        assert ask("/api/ballot", {"annotator": "  "})[0] == 400
        assert ask("/api/vote", {"annotator": "ann", "ballot": "0" * 24, "choice": "left"})[0] == 400
        ballot = json.loads(told)["ballot"]
        assert (
            ask("/api/vote", {"annotator": "bob", "ballot": ballot, "choice": "left"})[0] == 400
        )  # another's
        assert ask("/api/vote", {"annotator": "ann", "ballot": ballot, "choice": "up"})[0] == 400
        assert ask("/api/back", {"annotator": "ann"})[0] == 409
        assert ask("/api/ballot", {"annotator": "ann"}, host="evil.example")[0] == 403
    with serving(tmp_path / "key", api_keys=("k",)) as server:
        assert ask("/api/ballot", {"annotator": "ann"})[0] == 401
        assert ask("/api/ballot", {"annotator": "ann"}, authorization="Bearer k")[0] == 200


def test_the_page_names_no_other_host() -> None:
    for path in PAGE.iterdir():
        assert "//" not in path.read_text().replace("// ", ""), path
