"""The official client against our server."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal

import numpy as np
import openai
import pydantic
import pytest

from tests.serve.http.conftest import serving


def client_of(server, **settings) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, **settings)


@pytest.fixture
def client(engine):
    with serving(engine) as server, client_of(server) as client:
        yield client


def test_completions_say_what_generate_says(client, chat_lm) -> None:
    answer = client.completions.create(
        model="tiny", prompt="the cat", max_tokens=8, temperature=0, logprobs=2
    )
    plain = chat_lm.generate("the cat", max_tokens=8, temperature=0)
    choice = answer.choices[0]
    assert choice.text == plain.text
    assert choice.finish_reason == plain.finish_reason
    assert choice.logprobs.token_logprobs == pytest.approx(plain.logprobs)
    assert "".join(choice.logprobs.tokens) == plain.text
    assert choice.logprobs.text_offset[:2] == [0, len(choice.logprobs.tokens[0])]
    assert answer.usage.completion_tokens == len(plain.ids)
    assert answer.usage.prompt_tokens == len(chat_lm.prompt_ids("the cat"))
    assert answer.system_fingerprint.endswith("-deterministic")


def test_streamed_completions_join_to_the_whole(client) -> None:
    settings = dict(model="tiny", prompt=["the cat", "naïve"], max_tokens=8, temperature=0.7, seed=3, n=2)
    whole = client.completions.create(**settings)
    chunks = list(client.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    for index in range(4):
        texts = [c.choices[0].text for c in chunks if c.choices and c.choices[0].index == index]
        assert "".join(texts) == whole.choices[index].text
    assert [c.index for c in whole.choices] == [0, 1, 2, 3]
    assert chunks[-1].usage == whole.usage
    assert all(c.usage is None for c in chunks[:-1])


def test_embeddings_float_and_base64(client, chat_lm) -> None:
    from orrery.kit.lm import EmbedRequest

    answer = client.embeddings.create(
        model="tiny", input=["the cat", "the mat"]
    )  # base64, by the client's default
    plain = client.embeddings.create(model="tiny", input="the cat", encoding_format="float")
    expected = chat_lm.embed([EmbedRequest(ids=chat_lm.prompt_ids("the cat"))])[0]
    np.testing.assert_allclose(answer.data[0].embedding, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(plain.data[0].embedding, expected, rtol=1e-4, atol=1e-6)
    short = client.embeddings.create(model="tiny", input="the cat", dimensions=4)
    np.testing.assert_allclose(np.linalg.norm(short.data[0].embedding), 1, rtol=1e-4, atol=1e-6)
    assert [d.index for d in answer.data] == [0, 1]


def test_models(client) -> None:
    (model,) = client.models.list().data
    assert model.id == "tiny"
    assert client.models.retrieve("tiny") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


QUESTION = [{"role": "user", "content": "the cat"}]


def test_chat_says_what_generate_says(client, chat_lm) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_completion_tokens=8, temperature=0, logprobs=True, top_logprobs=2
    )
    plain = chat_lm.generate(QUESTION, max_tokens=8, temperature=0)
    choice = answer.choices[0]
    assert choice.message.content == plain.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == plain.finish_reason
    content = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode(errors="replace") == plain.text
    assert [token.logprob for token in content] == pytest.approx(plain.logprobs)
    assert len(content[0].top_logprobs) == 2


def test_streamed_chat_joins_to_the_whole(client) -> None:
    settings = dict(model="tiny", messages=QUESTION, max_tokens=12, temperature=0.9, seed=7, n=3)
    whole = client.chat.completions.create(**settings)
    chunks = list(
        client.chat.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    )
    for choice in whole.choices:
        mine = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == choice.index]
        assert mine[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in mine) == choice.message.content
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
    assert chunks[-1].usage == whole.usage


def test_responses_events_build_the_response(client, chat_lm) -> None:
    whole = client.responses.create(model="tiny", input="the cat", max_output_tokens=8, temperature=0)
    plain = chat_lm.generate(QUESTION, max_tokens=8, temperature=0)
    assert whole.output_text == plain.text
    assert whole.status == ("incomplete" if plain.finish_reason == "length" else "completed")
    events = list(
        client.responses.create(
            model="tiny", input="the cat", max_output_tokens=8, temperature=0, stream=True
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == plain.text
    last = events[-1]
    assert last.type == f"response.{whole.status}"
    assert last.response.output_text == plain.text
    assert last.response.usage == whole.usage


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 8},
                "days": {"type": "integer", "minimum": 0, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def weather(chat_lm) -> str:
    """A call as the model's own format writes it."""
    from orrery.serve.grammar.syntax import call_syntax

    return call_syntax(chat_lm.chat).spell("weather", {"city": "東京", "days": 3})


def test_tool_calls_whole_and_streamed(chat_lm) -> None:
    from tests.serve.http.fake import FakeEngine

    said = "Let me see." + weather(chat_lm)
    with serving(FakeEngine(chat_lm, script=[said])) as server, client_of(server) as client:
        settings = dict(model="tiny", messages=QUESTION, tools=[WEATHER])
        whole = client.chat.completions.create(**settings).choices[0]
        chunks = list(client.chat.completions.create(**settings, stream=True))
        grammars = [request.grammar for request in server.engine.requests]
    (call,) = whole.message.tool_calls
    assert whole.finish_reason == "tool_calls"
    assert whole.message.content == "Let me see."
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "東京", "days": 3}
    pieces = [c.choices[0].delta.tool_calls[0] for c in chunks if c.choices[0].delta.tool_calls]
    assert pieces[0].function.name == "weather" and pieces[0].id.startswith("call_")
    assert all(piece.id is None and piece.index == 0 for piece in pieces[1:])
    assert len(pieces) > 3
    assert "".join(piece.function.arguments for piece in pieces) == call.function.arguments
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Let me see."
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert all(grammar is not None and grammar.kind == "lark" for grammar in grammars)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_can_be_demanded(client, chat_lm, choice) -> None:
    """From a model that knows nothing of tools: the grammar alone makes the call, and it is valid."""
    answer = client.chat.completions.create(
        model="tiny",
        messages=QUESTION,
        tools=[WEATHER],
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=400,
        temperature=1,
        logit_bias={str(chat_lm.tokenizer.special["<|think|>"]): -100},
    )
    (call,) = answer.choices[0].message.tool_calls[:1]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather"
    assert set(arguments) == {"city", "days"} and isinstance(arguments["days"], int)


def test_a_tool_loop(chat_lm) -> None:
    """The answer goes back as it came, with the tool's result; the model reads what its chat format makes of it."""
    from tests.serve.http.fake import FakeEngine

    with (
        serving(FakeEngine(chat_lm, script=[weather(chat_lm), "Sunny."])) as server,
        client_of(server) as client,
    ):
        first = client.chat.completions.create(model="tiny", messages=QUESTION, tools=[WEATHER]).choices[0]
        result = {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "sun"}
        messages = [*QUESTION, first.message, result]
        second = client.chat.completions.create(model="tiny", messages=messages, tools=[WEATHER]).choices[0]
        read = server.engine.requests[1].ids
    assert (second.message.content, second.finish_reason) == ("Sunny.", "stop")
    calls = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "東京", "days": 3}}}]
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    expected = chat_lm.chat.prompt([*QUESTION, said, {"role": "tool", "content": "sun"}], tools=[WEATHER])
    assert list(read) == expected


class Person(pydantic.BaseModel):
    name: Literal["Ann", "Bo"]
    age: Annotated[int, pydantic.Field(ge=0, le=99)]


def test_structured_output_is_parsed(client) -> None:
    answer = client.chat.completions.parse(
        model="tiny", messages=QUESTION, response_format=Person, max_tokens=200, temperature=1, seed=2
    )
    person = answer.choices[0].message.parsed
    assert person.name in ("Ann", "Bo") and 0 <= person.age <= 99


def test_structured_output_of_responses(client) -> None:
    answer = client.responses.parse(model="tiny", input="the cat", text_format=Person, max_output_tokens=200)
    assert answer.output_parsed.name in ("Ann", "Bo")


@pytest.mark.parametrize(
    ("given", "matches"),
    [
        ({"type": "regex", "pattern": "[0-9]{3}"}, lambda text: text.isdigit() and len(text) == 3),
        ({"type": "choice", "choices": ["yes", "no"]}, lambda text: text in ("yes", "no")),
        ({"type": "lark", "grammar": 'start: "a" "b"'}, lambda text: text == "ab"),
        ({"type": "json_object"}, lambda text: isinstance(json.loads(text), dict)),
    ],
)
def test_other_formats(client, given, matches) -> None:
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, response_format=given, max_tokens=500, temperature=0.3, seed=1
    )
    if answer.choices[0].finish_reason == "stop":
        assert matches(answer.choices[0].message.content)
    else:
        assert given["type"] == "json_object"  # a small model may write blanks and long texts for ever


def test_function_tools_of_responses(chat_lm) -> None:
    from tests.serve.http.fake import FakeEngine

    tool = {"type": "function", **WEATHER["function"], "strict": False}
    with (
        serving(FakeEngine(chat_lm, script=["Well." + weather(chat_lm)])) as server,
        client_of(server) as client,
    ):
        whole = client.responses.create(model="tiny", input="the cat", tools=[tool])
        with client.responses.stream(model="tiny", input="the cat", tools=[tool]) as stream:
            events = list(stream)
            final = stream.get_final_response()
        items = [item.model_dump(exclude_none=True) for item in whole.output]
        output = {"type": "function_call_output", "call_id": whole.output[1].call_id, "output": "sun"}
        person = {"role": "user", "content": "the cat"}
        client.responses.create(model="tiny", input=[person, *items, output], tools=[tool])
        read = server.engine.requests[2].ids
    assert (
        [item.type for item in whole.output] == ["message", "function_call"] == [i.type for i in final.output]
    )
    assert json.loads(whole.output[1].arguments) == {"city": "東京", "days": 3}
    assert final.output[1].arguments == whole.output[1].arguments
    kinds = [event.type for event in events]
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 2
    assert kinds.index("response.output_text.done") < kinds.index("response.function_call_arguments.delta")
    calls = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "東京", "days": 3}}}]
    said = {"role": "assistant", "content": "Well.", "tool_calls": calls}
    plain = {"type": "function", "function": {**WEATHER["function"], "strict": False}}
    expected = chat_lm.chat.prompt([*QUESTION, said, {"role": "tool", "content": "sun"}], tools=[plain])
    assert list(read) == expected


def test_reasoning_is_apart(chat_lm) -> None:
    from tests.serve.http.fake import FakeEngine

    said = "<|think|>Cats sit.<|end_think|>On the mat."
    with serving(FakeEngine(chat_lm, script=[said])) as server, client_of(server) as client:
        message = client.chat.completions.create(model="tiny", messages=QUESTION).choices[0].message
        deltas = [
            c.choices[0].delta
            for c in client.chat.completions.create(model="tiny", messages=QUESTION, stream=True)
        ]
        response = client.responses.create(model="tiny", input="the cat")
    assert (message.content, message.reasoning_content) == ("On the mat.", "Cats sit.")
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "Cats sit."
    assert "".join(d.content or "" for d in deltas) == "On the mat."
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output[0].content[0].text == "Cats sit."


def test_async_client(engine) -> None:
    async def run(url: str) -> tuple[list[str], list[str]]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

            async def one(seed: int, stream: bool) -> str:
                settings = dict(model="tiny", messages=QUESTION, max_tokens=12, temperature=1, seed=seed)
                if not stream:
                    answer = await client.chat.completions.create(**settings)
                    return answer.choices[0].message.content
                chunks = await client.chat.completions.create(**settings, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

            together = await asyncio.gather(*(one(seed, seed % 2 == 0) for seed in range(12)))
            alone = [await one(seed, seed % 2 == 1) for seed in range(12)]
            return together, alone

    with serving(engine) as server:
        together, alone = asyncio.run(run(server.url))
    assert together == alone
    assert len(set(alone)) > 6


def test_errors_are_the_clients_own(client, engine) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="other", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="tiny", messages=QUESTION, temperature=9)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="blob"):
        client.chat.completions.create(model="tiny", messages=QUESTION, extra_body={"blob": 1})
    with (
        serving(engine, api_keys=("sk-x",)) as server,
        client_of(server) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_penalties_bias_and_stops_reach_the_engine(client, chat_lm) -> None:
    settings = dict(max_tokens=20, temperature=0)
    plain = client.completions.create(model="tiny", prompt="the cat", **settings).choices[0].text
    first = chat_lm.generate("the cat", **settings).ids[0]
    biased = client.completions.create(
        model="tiny", prompt="the cat", logit_bias={str(first): -100}, **settings
    )
    assert (
        biased.choices[0].text
        == chat_lm.generate("the cat", logit_bias={first: -100.0}, **settings).text
        != plain
    )
    sampling = dict(presence_penalty=1.0, frequency_penalty=0.5, top_p=0.9, seed=4)
    ours = dict(top_k=20, min_p=0.01, typical_p=0.95, repetition_penalty=1.2)
    settings["temperature"] = 0.8
    drawn = client.completions.create(model="tiny", prompt="the cat", **settings, **sampling, extra_body=ours)
    assert drawn.choices[0].text == chat_lm.generate("the cat", **settings, **sampling, **ours).text
    stop = plain[3:5]
    stopped = client.completions.create(
        model="tiny", prompt="the cat", stop=stop, max_tokens=20, temperature=0
    )
    assert stopped.choices[0].text == plain[: plain.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"


def test_echo_gives_the_prompts_own_logprobs(client, chat_lm) -> None:
    """What evaluation harnesses ask for: log-probabilities of a text, nothing new."""
    ids = chat_lm.prompt_ids("the cat sat")
    answer = client.completions.create(model="tiny", prompt=ids, echo=True, logprobs=1, max_tokens=0)
    logprobs = answer.choices[0].logprobs.token_logprobs
    assert logprobs[0] is None and len(logprobs) == len(ids)
    expected = chat_lm.logits(ids).log_softmax(-1)
    assert logprobs[1:] == pytest.approx(
        [float(expected[i, ids[i + 1]]) for i in range(len(ids) - 1)], abs=1e-4
    )
    assert answer.choices[0].text == "the cat sat"


def test_best_of_and_beams(client, chat_lm) -> None:
    best = client.completions.create(model="tiny", prompt="the", best_of=4, n=2, max_tokens=6, temperature=1)
    assert len(best.choices) == 2
    beams = client.completions.create(model="tiny", prompt="the", max_tokens=6, extra_body={"num_beams": 3})
    assert beams.choices[0].text == chat_lm.generate("the", max_tokens=6, num_beams=3, temperature=0).text


def test_what_openai_has_no_words_for(client, chat_lm) -> None:
    observe = [{"what": "logit_lens", "top": 3}, {"what": "attention_entropy", "layers": [1]}]
    width = chat_lm.config.d_model
    settings = dict(model="tiny", messages=QUESTION, max_tokens=5, temperature=0)
    seen = client.chat.completions.create(**settings, extra_body={"orrery": {"observe": observe}})
    extra = seen.choices[0].orrery
    assert (
        len(extra["observed"]["logit_lens"])
        == len(extra["ids"])
        == len(extra["observed"]["attention_entropy"])
    )
    assert [len(layer) for layer in extra["observed"]["logit_lens"][0]] == [3] * chat_lm.config.n_layers
    assert seen.orrery["prompt_ids"] == chat_lm.prompt_ids(QUESTION)
    chunks = client.chat.completions.create(
        **settings, stream=True, extra_body={"orrery": {"observe": observe}}
    )
    pieces = [c.choices[0].orrery for c in chunks if getattr(c.choices[0], "orrery", None)]
    assert [i for piece in pieces for i in piece["ids"]] == extra["ids"]
    assert [row for piece in pieces for row in piece["observed"]["logit_lens"]] == extra["observed"][
        "logit_lens"
    ]
    push = {"layer": 0, "vector": [3.0] * width, "strength": 4.0}
    steered = client.chat.completions.create(**settings, extra_body={"orrery": {"steering": [push]}})
    assert steered.choices[0].message.content != seen.choices[0].message.content
    texts = {"layer": 0, "toward": "the cat", "away": "def read", "strength": 20.0}
    toward = client.chat.completions.create(**settings, extra_body={"orrery": {"steering": [texts]}})
    assert toward.choices[0].message.content != seen.choices[0].message.content


def test_tokenize_and_back(engine, chat_lm) -> None:
    from tests.serve.http.raw import ask, post

    with serving(engine) as server:
        tokens = ask(server.port, post("/tokenize", {"text": "naïve 東京"})).json
        assert tokens["ids"] == chat_lm.tokenizer.encode("naïve 東京") and tokens["count"] == len(
            tokens["ids"]
        )
        assert b"".join(bytes(t["bytes"]) for t in tokens["tokens"]).decode() == "naïve 東京"
        back = ask(server.port, post("/detokenize", {"ids": tokens["ids"]})).json
        assert back["text"] == "naïve 東京"
        chat = ask(server.port, post("/tokenize", {"messages": QUESTION})).json
        assert chat["ids"] == chat_lm.chat.prompt(QUESTION)
