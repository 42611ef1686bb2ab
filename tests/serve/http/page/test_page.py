"""The conversation in a real browser, on a real server with a small real model."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.engine import Engine
from tests.serve.http.conftest import serving, until
from tests.serve.http.fake import FakeEngine
from tests.serve.http.page.conftest import reply, say, setting

PAGE = Path(__file__).parents[4] / "orrery" / "serve" / "http" / "page"
HOSTILE = """**Bold** and `code`

<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">
<iframe src="http://other.example/"></iframe><a href="javascript:window.hacked = 3">go</a>

[run](javascript:window.hacked=5) [self](/metrics)
![picture](http://other.example/p.png) [link](https://right.example/)
<style>body { display: none }</style><form action="http://other.example/"><button>b</button></form>
"""


def test_what_others_wrote_is_what_the_lock_says() -> None:
    vendor = PAGE / "vendor"
    locked = json.loads((vendor / "lock.json").read_text())["files"]
    for row in locked:
        assert hashlib.sha256((vendor / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["version"] and row["licence"] and row["source"].startswith("https://registry.npmjs.org/")
        for part in (row, *row.get("contains", ())):
            assert "Copyright" in (vendor / part["licence_file"]).read_text()
    assert {row["file"] for row in locked} == {path.name for path in vendor.glob("*.js")}


def test_the_page_names_no_other_host_and_its_files_are_short() -> None:
    ours = [p for p in PAGE.rglob("*") if p.suffix in (".js", ".css", ".html") and p.parent.name != "vendor"]
    assert len(ours) > 15
    for path in ours:
        text = path.read_text()
        assert not re.search(r"""["'(](https?:)?//\w""", text), path
        assert len(text.splitlines()) <= 400, path


def test_a_message_is_answered_piece_by_piece(open_page, engine, chat_lm) -> None:
    engine.token_s = 0.03
    with serving(engine) as server:
        page = open_page(server, permissions=["clipboard-read", "clipboard-write"])
        setting(page, "Seed", 5)
        setting(page, "Most tokens", 24)
        page.locator(".composer textarea").fill("the cat")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("sat")
        page.keyboard.press("Enter")
        until(lambda: len(page.locator(".assistant .markdown").inner_text()) > 2)
        assert page.get_by_label("Stop", exact=True).is_visible()  # pieces are shown before the end
        made = reply(page)
        page.get_by_label("Copy", exact=True).last.click()
        page.get_by_label("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == chat_lm.generate(engine.requests)[0].text
        page.wait_for_timeout(400)  # until it is stored
    (request,) = engine.requests
    assert list(request.ids) == chat_lm.prompt_ids([{"role": "user", "content": "the cat\nsat"}])
    sampling = request.sampling
    assert (request.max_tokens, sampling.seed, sampling.temperature) == (24, 5, 0.8)
    assert page.locator(".bubble").inner_text() == "the cat\nsat"
    assert re.search(r"24 tokens.*seed 5.*cut at the limit", made.locator(".facts").inner_text())
    tokens = page.evaluate("JSON.parse(localStorage['orrery.page.1']).messages[1].tokens.map(t => t.id)")
    assert tokens == list(chat_lm.generate([request])[0].ids)


def test_stop_regenerate_edit_and_what_is_kept(open_page, engine) -> None:
    engine.token_s = 0.05
    with serving(engine) as server:
        page = open_page(server)
        page.get_by_role("button", name="Settings", exact=True).click()
        page.get_by_label("System prompt").fill("be brief")
        page.get_by_label("Stop at").fill("###\nEND")
        page.keyboard.press("Escape")
        say(page, "one")
        page.locator(".assistant .cursor").wait_for()
        page.keyboard.press("Escape")
        assert "stopped" in reply(page).inner_text()
        until(lambda: engine.cancelled == 1)
        engine.token_s, engine.script = 0.0, ["second reply"]
        page.get_by_label("Regenerate").click()
        page.get_by_text("second reply").wait_for()
        assert len(engine.requests) == 2 and engine.requests[1].ids == engine.requests[0].ids
        assert engine.requests[1].stop == ("###", "END")
        page.locator(".composer textarea").press("ArrowUp")
        page.locator(".editor textarea").fill("two")
        page.keyboard.press("Enter")
        page.locator(".bubble", has_text="two").wait_for()
        reply(page)
        assert page.locator("li").count() == 2  # what came after the edited message is gone
        sent = engine.lm.tokenizer.decode(engine.requests[2].ids)
        assert "be brief" in sent and "two" in sent and "one" not in sent
        page.wait_for_timeout(400)
        page.reload()
        page.get_by_text("second reply").wait_for()
        assert page.locator(".bubble").inner_text() == "two"


def test_what_a_model_says_is_text_and_never_runs(open_page, engine) -> None:
    engine.script = [HOSTILE]
    with serving(engine) as server:
        page = open_page(server)
        say(page, "<img src=x onerror='window.hacked = 4'>")
        shown = reply(page)
        assert shown.locator("strong").inner_text() == "Bold" and shown.locator("code").inner_text() == "code"
        inside = shown.locator(".markdown")
        assert inside.locator("script, img, iframe, style, form, button, [onerror], [style]").count() == 0
        links = inside.locator("a").evaluate_all(
            "all => all.map(a => [a.textContent, a.getAttribute('href'), a.rel])"
        )
        assert [link[:2] for link in links if link[1]] == [
            ["picture", "http://other.example/p.png"],
            ["link", "https://right.example/"],
        ]
        assert all("noopener" in link[2] for link in links)
        assert "<script>" in inside.inner_text()  # shown as it stands
        page.get_by_role("button", name="Glass", exact=True).click()  # the same as tokens
        assert "<script>" in page.locator(".tokens").inner_text().replace("\u21b5", "")
        assert page.evaluate("window.hacked") is None
        rendered = "text => import('/page/markdown.js').then(m => { const d = document.createElement('div'); d.append(m.render(text)); return d.innerHTML })"
        made = page.evaluate(rendered, "|a|\n|--:|\n|1<br>2|\n\n3. x")
        assert '<td align="right">1<br>2</td>' in made and '<ol start="3">' in made


def test_a_base_model_goes_on_with_the_text(open_page, base_lm) -> None:
    engine = FakeEngine(base_lm)
    with serving(engine) as server:
        page = open_page(server)
        assert "goes on with your text" in page.locator(".welcome").inner_text()
        setting(page, "Most tokens", 6)
        say(page, "the cat")
        reply(page)
        assert list(engine.requests[0].ids) == base_lm.prompt_ids("the cat")
        page.wait_for_timeout(400)
        text = page.evaluate("JSON.parse(localStorage['orrery.page.1']).messages[1].text")
        say(page, " and more")
        page.locator("li.assistant").nth(1).wait_for()
        reply(page)
        assert list(engine.requests[1].ids) == base_lm.prompt_ids("the cat" + text + " and more")


def test_a_key_opens_the_page_and_goes_to_no_storage_that_lasts(open_page, engine) -> None:
    with serving(engine, api_keys=("s3cret",)) as server:
        page = open_page(server, http_credentials={"username": "", "password": "s3cret"})
        page.get_by_role("button", name="Settings", exact=True).click()
        page.get_by_label("API key").fill("s3cret")
        with page.expect_request("**/v1/models") as sent:
            page.get_by_label("API key").press("Enter")
        assert sent.value.headers["authorization"] == "Bearer s3cret"
        page.wait_for_timeout(400)
        assert "s3cret" not in page.evaluate("JSON.stringify(localStorage)")
        assert "s3cret" in page.evaluate("JSON.stringify(sessionStorage)")


def test_a_refusal_is_said_in_words(open_page, engine) -> None:
    with serving(engine) as server:
        page = open_page(server)
        setting(page, "Most tokens", 24)
        engine.script = ["fine"]
        page.route("**/v1/chat/completions", lambda r: r.fulfill(
            status=429, headers={"retry-after": "2"}, json={"error": {"message": "Too many wait.", "code": "busy"}}
        ))  # fmt: skip
        say(page, "hello")
        alert = page.locator(".assistant .failure")
        alert.wait_for()
        assert alert.inner_text() == "Too many wait. Try again in 2 s."
        (told,) = page.faults  # the browser's own line
        page.faults.remove(told)
        page.unroute("**/v1/chat/completions")
        page.get_by_label("Regenerate").click()
        page.get_by_text("fine").wait_for()


def test_it_fits_a_phone_in_the_dark_and_in_the_light(open_page, chat_lm) -> None:
    with serving(AsyncEngine(Engine(chat_lm))) as server:
        page = open_page(server, viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
        setting(page, "Most tokens", 30)
        say(page, "w" * 300)
        reply(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert sum(ground(page)) < 150
        page.get_by_role("button", name="Glass", exact=True).tap()
        page.locator(".token").nth(2).tap()
        page.locator("canvas.map").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        panel = page.locator(".glass").bounding_box()
        assert panel["width"] == 390 and panel["y"] > 200  # the reply stays in sight above it
        page.get_by_role("button", name=re.compile("Colours: auto")).tap()  # light, whatever the system says
        assert sum(ground(page)) > 600


def ground(page: Any) -> list[int]:
    """Red, green and blue of the page's background."""
    return [
        int(x)
        for x in re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]
    ]
