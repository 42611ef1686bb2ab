from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import orrery
from orrery.kit.errors import OrreryError
from orrery.kit.lm import (
    EmbedRequest,
    GenerateRequest,
    Grammar,
    LanguageModel,
    Observe,
    Sampling,
    ScoreRequest,
    Steering,
)
from orrery.serve.lm import LM
from orrery.text import TokenizerConfig, train_tokenizer
from orrery.text.chat import ChatFormat

SOME = [5, 40, 41, 42, 300]


# --- generation


def test_reported_logprobs_are_those_of_the_logits(lm) -> None:
    done = lm.generate(
        SOME, max_tokens=20, temperature=1.3, top_p=0.9, repetition_penalty=1.2, seed=4, ignore_eos=True
    )
    assert len(done.ids) == len(done.logprobs) == 20
    rows = lm.logits([*SOME, *done.ids])[len(SOME) - 1 : -1].log_softmax(-1)
    want = rows[torch.arange(20), torch.tensor(done.ids)]
    assert done.logprobs == pytest.approx(want.tolist(), abs=1e-5)


def test_greedy_is_the_argmax_of_every_step(lm) -> None:
    ids = list(SOME)
    for _ in range(15):
        ids.append(int(lm.logits(ids)[-1].argmax()))
    done = lm.generate(SOME, max_tokens=15, temperature=0, ignore_eos=True)
    assert list(done.ids) == ids[len(SOME) :]
    assert done.finish_reason == "length"


def test_the_same_request_gives_the_same_bytes(lm) -> None:
    requests = [
        GenerateRequest(ids=SOME[:n], max_tokens=12, sampling=Sampling(seed=s), ignore_eos=True)
        for n in (1, 3, 5)
        for s in (0, 1)
    ]
    alone = [lm.generate([request])[0] for request in requests]
    assert lm.generate(requests) == alone == lm.generate(requests[::-1])[::-1]
    assert alone[0] == lm.generate(SOME[:1], max_tokens=12, ignore_eos=True)
    assert len({done.ids for done in alone}) == 6
    named = [lm.generate([replace(requests[0], request_id=name)])[0].ids for name in "ab"]
    assert named[0] != named[1]


def test_a_request_cut_in_two_goes_on_with_the_same_tokens(lm) -> None:
    whole = lm.generate(SOME, max_tokens=16, seed=2, ignore_eos=True).ids
    first = lm.generate(SOME, max_tokens=7, seed=2, ignore_eos=True).ids
    assert first + lm.generate([*SOME, *first], max_tokens=9, seed=2, ignore_eos=True).ids == whole


def test_text_is_the_decoded_ids_and_streams_in_the_same_pieces(lm) -> None:
    for seed in range(5):
        done = lm.generate("the cat", max_tokens=24, seed=seed, ignore_eos=True)
        assert done.text == lm.tokenizer.decode(done.ids)
        assert "".join(lm.stream("the cat", max_tokens=24, seed=seed, ignore_eos=True)) == done.text


def test_a_stop_id_ends_and_is_reported_but_not_shown(lm) -> None:
    free = lm.generate(SOME, max_tokens=12, seed=3, ignore_eos=True)
    stop_id = free.ids[6]
    request = GenerateRequest(ids=SOME, max_tokens=12, sampling=Sampling(seed=3), stop_ids=(stop_id,))
    (done,) = lm.generate([request])
    end = free.ids.index(stop_id)
    assert done.ids == free.ids[: end + 1]
    assert done.logprobs == free.logprobs[: end + 1]
    assert (done.text, done.finish_reason) == (lm.tokenizer.decode(free.ids[:end]), "stop")
    assert lm.generate([replace(request, ignore_eos=True)])[0] == free


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_stop_strings_never_show_and_cut_the_decoded_text(lm, data) -> None:
    seed = data.draw(st.integers(0, 5))
    free = lm.generate("def", max_tokens=20, seed=seed, ignore_eos=True).text
    begin = data.draw(st.integers(0, max(len(free) - 1, 0)))
    stops = [free[begin : begin + data.draw(st.integers(1, 4))] or "x", "never to be seen"]
    done = lm.generate("def", max_tokens=20, seed=seed, ignore_eos=True, stop=stops)
    pieces = list(lm.stream("def", max_tokens=20, seed=seed, ignore_eos=True, stop=stops))
    whole = lm.tokenizer.decode(done.ids)
    cut = min((place for s in stops if (place := whole.find(s)) >= 0), default=len(whole))
    assert "".join(pieces) == done.text == whole[:cut]
    assert (done.finish_reason == "stop") == (cut < len(whole))
    assert free.startswith(done.text)


def test_a_forbidden_token_is_not_drawn_and_a_pushed_one_is(lm) -> None:
    first = lm.generate(SOME, max_tokens=1, temperature=0, ignore_eos=True).ids[0]
    assert (
        lm.generate(SOME, max_tokens=1, temperature=0, ignore_eos=True, logit_bias={first: -math.inf}).ids[0]
        != first
    )
    assert lm.generate(SOME, max_tokens=3, ignore_eos=True, logit_bias={77: 1000.0}).ids == (77, 77, 77)


def test_a_frequency_penalty_ends_a_repetition(lm) -> None:
    free = lm.generate(SOME, max_tokens=12, temperature=0, ignore_eos=True, logit_bias={77: 12.0}).ids
    held = lm.generate(
        SOME, max_tokens=12, temperature=0, ignore_eos=True, logit_bias={77: 12.0}, frequency_penalty=5.0
    ).ids
    assert held.count(77) < free.count(77)


def test_the_context_is_a_limit(lm) -> None:
    full = [9] * 64
    done = lm.generate(full, max_tokens=10, ignore_eos=True)  # one more token needs no place of its own
    assert (len(done.ids), done.finish_reason) == (1, "length")
    assert len(lm.generate(full[:60], max_tokens=10, ignore_eos=True).ids) == 5
    with pytest.raises(OrreryError, match=r"65 tokens but the model's context is 64"):
        lm.generate([*full, 9], max_tokens=1)


def test_left_truncation_keeps_the_end_and_room_for_the_answer(lm) -> None:
    text = "the cat sat on the mat. " * 40
    ids = lm.prompt_ids(text, max_tokens=20, truncation="left")
    assert ids == [lm.tokenizer.bos_id, *lm.tokenizer.encode(text)[-44:]]
    assert len(lm.generate(text, max_tokens=20, truncation="left", ignore_eos=True).ids) == 20
    assert lm.prompt_ids("cat", truncation="left") == lm.prompt_ids("cat")
    assert len(lm.prompt_ids(list(range(64)), max_tokens=500, truncation="left")) == 32


def test_messages_go_through_the_chat_format(lm) -> None:
    messages = [{"role": "user", "content": "the cat"}]
    ids = lm.chat.render(messages, generate=True).ids
    assert lm.generate(messages, max_tokens=8, seed=5) == lm.generate(ids, max_tokens=8, seed=5)
    assert set(lm.stop_ids) == {lm.tokenizer.special["<|end|>"], lm.tokenizer.eos_id}
    with pytest.raises(OrreryError, match="no chat format"):
        LM(model=lm.model, tokenizer=lm.tokenizer).generate(messages)


def test_a_space_tokenizer_keeps_the_space_after_the_prompt(make_model) -> None:
    """Tokenizers that mark words by a leading space drop it at a text's beginning, but not in its middle."""
    tokenizer = train_tokenizer(
        ["the cat sat on the mat "] * 30, TokenizerConfig(kind="bpe-fallback", vocab_size=310)
    )
    lm = LM(model=make_model(tokenizer.vocab_size), tokenizer=tokenizer)
    word = tokenizer.encode("the cat")[1]
    assert lm.generate("the", max_tokens=1, logit_bias={word: 1000.0}).text == " cat"


def test_rows_beyond_the_tokenizer_are_never_drawn(make_model, tokenizer) -> None:
    lm = LM(model=make_model(tokenizer.vocab_size + 64), tokenizer=tokenizer)
    for how in ({"temperature": 50.0}, {"temperature": 0}, {"num_beams": 3}):
        done = lm.generate([5], max_tokens=30, ignore_eos=True, **how)
        assert max(done.ids) < tokenizer.vocab_size
    rows = lm.logits([5, *done.ids])[:-1].log_softmax(-1)
    assert done.logprobs == pytest.approx(rows[torch.arange(30), torch.tensor(done.ids)].tolist(), abs=1e-5)


# --- several continuations, and what is reported


def test_the_first_of_several_is_the_one_alone(lm) -> None:
    alone = lm.generate(SOME, max_tokens=10, seed=3, ignore_eos=True)
    three = lm.generate(SOME, max_tokens=10, seed=3, ignore_eos=True, n=3)
    assert replace(three, others=()) == alone
    assert len({alone.ids, *(done.ids for done in three.others)}) == 3
    named = GenerateRequest(
        ids=SOME, max_tokens=10, sampling=Sampling(seed=3), ignore_eos=True, request_id="#2"
    )
    assert lm.generate([named])[0].ids == three.others[1].ids
    more = lm.generate(SOME, max_tokens=10, seed=3, ignore_eos=True, n=5)
    assert more.others[:2] == three.others


def test_best_of_gives_the_likeliest(lm) -> None:
    made = lm.generate(SOME, max_tokens=6, seed=1, ignore_eos=True, n=5)
    every = [replace(made, others=()), *made.others]
    best = lm.generate(SOME, max_tokens=6, seed=1, ignore_eos=True, n=2, best_of=5)
    ranked = sorted(every, key=lambda done: -sum(done.logprobs) / len(done.logprobs))
    assert [replace(best, others=()), *best.others] == ranked[:2]


def test_alternatives_are_those_of_the_logits(lm) -> None:
    done = lm.generate(SOME, max_tokens=8, seed=2, ignore_eos=True, logprobs=3, n=2)
    for one in (done, *done.others):
        rows = lm.logits([*SOME, *one.ids])[len(SOME) - 1 : -1].log_softmax(-1)
        assert len(one.top_logprobs) == 8
        for row, top, id, logprob in zip(rows, one.top_logprobs, one.ids, one.logprobs, strict=True):
            want = row.topk(3)
            assert list(top) == want.indices.tolist()
            assert list(top.values()) == pytest.approx(want.values.tolist(), abs=1e-5)
            assert top.get(id, logprob) == logprob
    bare = lm.generate(SOME, max_tokens=8, seed=2, ignore_eos=True)
    assert (bare.ids, bare.logprobs, bare.top_logprobs) == (done.ids, done.logprobs, ())
    assert lm.generate(SOME, max_tokens=2, ignore_eos=True, logprobs=0).top_logprobs == ({}, {})


@pytest.mark.parametrize("how", [{}, {"num_beams": 2}, {"n": 2}])
def test_the_prompt_is_reported(lm, how) -> None:
    prompt = SOME * 8  # more than are looked at at once
    rows = lm.logits(prompt)[:-1].log_softmax(-1)
    done = lm.generate(prompt, max_tokens=2, ignore_eos=True, prompt_logprobs=2, **how)
    assert len(done.prompt_logprobs) == len(prompt) - 1
    for row, read, id in zip(rows, done.prompt_logprobs, prompt[1:], strict=True):
        assert next(iter(read)) == id
        assert set(read) == {id, *row.topk(2).indices.tolist()}
        assert list(read.values()) == pytest.approx([float(row[i]) for i in read], abs=1e-5)
    assert lm.generate([9], max_tokens=1, prompt_logprobs=5).prompt_logprobs == ()


def test_words_that_must_not_be_said_and_marks_over_which_nothing_repeats(lm) -> None:
    request = lm.request("the", bad_words=["cat", (1, 2)], dry_breakers=["\n"], dry_multiplier=0.8)
    s = request.sampling
    assert (1, 2) in s.bad_words and tuple(lm.tokenizer.encode(" cat")) in s.bad_words
    assert lm.tokenizer.encode("\n")[0] in s.dry_breakers
    first = lm.generate(SOME, max_tokens=1, temperature=0, ignore_eos=True).ids[0]
    held = lm.generate(
        SOME, max_tokens=9, temperature=0, ignore_eos=True, bad_words=[(first,), (SOME[-1], 7)]
    )
    assert first not in held.ids
    assert held.ids[0] != 7


def test_dry_ends_a_loop(lm) -> None:
    how = dict(max_tokens=40, temperature=0, ignore_eos=True)

    def longest_echo(ids: tuple[int, ...]) -> int:
        """Tokens at the end that stood there before."""
        return max(
            (n for n in range(1, 20) for i in range(len(ids) - n) if ids[i : i + n] == ids[-n:]), default=0
        )

    free = lm.generate([77] * 5, logit_bias={77: 12.0}, **how).ids
    held = lm.generate([77] * 5, logit_bias={77: 12.0}, dry_multiplier=0.8, **how).ids
    assert longest_echo(free) > 10 > longest_echo(held)


def test_a_grammar_shapes_the_text(lm) -> None:
    pytest.importorskip("llguidance", reason="needs the extra: pip install 'orrery-lm[serve]'")
    for seed in range(4):
        done = lm.generate(
            "def", max_tokens=30, seed=seed, grammar=Grammar(kind="regex", source="(cat|mat)+!")
        )
        assert re.fullmatch(r"(cat|mat)*(c|ca|m|ma|!)?", done.text)
        assert (done.finish_reason == "stop") == done.text.endswith("!")
    grammar = Grammar(kind="regex", source="(cat|mat){3}")
    assert (
        "".join(lm.stream("def", seed=5, grammar=grammar)) == lm.generate("def", seed=5, grammar=grammar).text
    )
    picked = lm.generate("def", seed=1, grammar=Grammar(kind="choice", source='["the cat", "the mat"]'), n=4)
    assert {one.text for one in (picked, *picked.others)} <= {"the cat", "the mat"}
    with pytest.raises(OrreryError, match="follows no grammar"):
        lm.generate("def", num_beams=2, grammar=Grammar(kind="regex", source="a"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 0}, "n must be 1"), ({"n": 3, "best_of": 2}, "best_of at least n"), ({"logprobs": -1}, "logprobs must be from 0 to 320"),
        ({"prompt_logprobs": 10**9}, "prompt_logprobs must be"), ({"adapter": "x"}, "Engine"), ({"steering": (Steering(layer=0, vector=()),)}, "Engine"),
        ({"observe": (Observe(what="logit_lens"),)}, "Engine"), ({"num_beams": 2, "n": 3}, "at most num_beams"),
        ({"num_beams": 2, "logprobs": 1}, "no alternatives"), ({"num_beams": 2, "best_of": 2}, "best_of"),
    ],
)  # fmt: skip
def test_nothing_asked_for_is_silently_left_out(lm, change, says) -> None:
    with pytest.raises(OrreryError, match=says):
        lm.generate([GenerateRequest(ids=SOME, **change)])


@pytest.mark.parametrize("change", [{"n": 2}, {"best_of": 2}, {"logprobs": 1}, {"prompt_logprobs": 1}])
def test_a_stream_is_one_text(lm, change) -> None:
    with pytest.raises(OrreryError, match="use generate"):
        lm.stream(SOME, **change)


# --- beams


def test_the_n_best_beams(lm) -> None:
    best = lm.generate(SOME, max_tokens=5, num_beams=4, ignore_eos=True)
    three = lm.generate(SOME, max_tokens=5, num_beams=4, ignore_eos=True, n=3)
    assert replace(three, others=()) == best
    scores = [sum(done.logprobs) for done in (three, *three.others)]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)


def test_beams_find_at_least_what_greedy_finds(lm) -> None:
    greedy = lm.generate(SOME, max_tokens=6, temperature=0, ignore_eos=True)
    beams = lm.generate(SOME, max_tokens=6, num_beams=6, ignore_eos=True)
    assert sum(beams.logprobs) >= sum(greedy.logprobs)
    rows = lm.logits([*SOME, *beams.ids])[len(SOME) - 1 : -1].log_softmax(-1)
    assert beams.logprobs == pytest.approx(rows[torch.arange(6), torch.tensor(beams.ids)].tolist(), abs=1e-5)
    assert beams == lm.generate(SOME, max_tokens=6, num_beams=6, temperature=0, ignore_eos=True)


def test_the_widest_beam_is_exhaustive_on_a_tiny_model(make_model, tokenizer) -> None:
    model = make_model(4, max_positions=8)
    lm = LM(model=model, tokenizer=tokenizer)
    done = lm.generate([1], max_tokens=3, num_beams=4**3, ignore_eos=True, length_penalty=0.0)
    every = torch.cartesian_prod(*[torch.arange(4)] * 3)
    scores = []
    for ids in every.tolist():
        rows = lm.logits([1, *ids]).log_softmax(-1)
        scores.append(sum(float(rows[i, token]) for i, token in enumerate(ids)))
    best = int(np.argmax(scores))
    assert list(done.ids) == every[best].tolist()
    assert sum(done.logprobs) == pytest.approx(scores[best], abs=1e-5)


def test_beams_stop_at_stop_strings(lm) -> None:
    free = lm.generate("def", max_tokens=8, num_beams=3, ignore_eos=True)
    stop = free.text[len(free.text) // 2 :][:2]
    done = lm.generate("def", max_tokens=8, num_beams=3, ignore_eos=True, stop=stop)
    assert stop not in done.text


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.7}, {"top_k": 3}, {"repetition_penalty": 1.2, "temperature": 0}]
)
def test_beams_do_not_sample(lm, wrong) -> None:
    with pytest.raises(OrreryError, match="does not sample"):
        lm.generate(SOME, num_beams=2, **wrong)


def test_beams_do_not_stream(lm) -> None:
    with pytest.raises(OrreryError, match="num_beams=1 to stream"):
        lm.stream(SOME, num_beams=2)


# --- logits, scores, embeddings


def test_score_is_the_sum_over_the_logits(lm) -> None:
    text = "the café sat"
    ids = [lm.tokenizer.bos_id, *lm.tokenizer.encode(text)]
    rows = lm.logits(ids).log_softmax(-1)
    want = [float(rows[i, token]) for i, token in enumerate(ids[1:])]
    score = lm.score(text)
    assert score.logprobs == pytest.approx(want, abs=1e-5)
    assert (score.nats, score.tokens, score.bytes) == (
        pytest.approx(-sum(want), abs=1e-4),
        len(ids) - 1,
        len(text.encode()),
    )
    assert lm.score(ids) == score
    assert score.bits_per_byte == pytest.approx(-sum(want) / math.log(2) / len(text.encode()), abs=1e-6)


def test_scores_of_requests(lm) -> None:
    one, two = lm.score([ScoreRequest(ids=SOME, start=3), ScoreRequest(ids=SOME[:3])])
    whole = lm.score(SOME)
    assert one.logprobs == pytest.approx(whole.logprobs[2:], abs=1e-5)
    assert two.logprobs == pytest.approx(whole.logprobs[:2], abs=1e-5)
    assert lm.score([]) == []


def test_long_texts_are_scored_whole(lm) -> None:
    text = "the cat sat on the mat. " * 30
    score = lm.score(text)
    assert score.tokens == len(lm.tokenizer.encode(text)) > lm.context
    assert lm.score(text, stride=1).tokens == score.tokens


@pytest.mark.parametrize(
    "call",
    [
        lambda lm: lm.score(""),
        lambda lm: lm.score([4]),
        lambda lm: lm.score([ScoreRequest(ids=SOME, start=5)]),
    ],
)
def test_nothing_to_score_is_an_error(lm, call) -> None:
    with pytest.raises(OrreryError, match="nothing to score"):
        call(lm)


def test_embeddings(lm) -> None:
    mean, last, raw = lm.embed(
        [
            EmbedRequest(ids=SOME),
            EmbedRequest(ids=SOME[:2], pooling="last"),
            EmbedRequest(ids=SOME, normalize=False),
        ]
    )
    assert mean.shape == (32,)
    assert np.linalg.norm(mean) == pytest.approx(1, abs=1e-6)
    assert raw / np.linalg.norm(raw) == pytest.approx(mean, abs=1e-6)
    assert last == pytest.approx(lm.embed([EmbedRequest(ids=SOME[:2], pooling="last")])[0], abs=1e-6)
    assert lm.embed([]) == []


def test_it_is_a_language_model(lm) -> None:
    model: LanguageModel = lm
    assert [
        len(done.ids) for done in model.generate([GenerateRequest(ids=SOME, max_tokens=2, ignore_eos=True)])
    ] == [2]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda lm: lm.generate([]), "prompt is empty"),
        (lambda lm: lm.generate([500]), "token id 500"),
        (lambda lm: lm.generate("a", max_tokens=0), "max_tokens"),
        (lambda lm: lm.generate("a", temperature=-1), "temperature"),
        (lambda lm: lm.generate("a", stop=[""]), "stop takes a list"),
        (lambda lm: lm.generate([{"role": "usr", "content": "x"}]), "usr"),
        (lambda lm: lm.logits([]), "looks at 1 to 64"),
        (lambda lm: lm.logits([1] * 65), "looks at 1 to 64"),
        (lambda lm: lm.logits([320]), "token id 320"),
    ],
)
def test_mistakes_are_named(lm, call, says) -> None:
    with pytest.raises(OrreryError, match=says):
        call(lm)


def test_unknown_settings_are_type_errors(lm) -> None:
    with pytest.raises(TypeError, match="temprature"):
        lm.generate("a", temprature=1.0)


def test_a_diverged_model_says_so(make_model, tokenizer) -> None:
    model = make_model(tokenizer.vocab_size)
    with torch.no_grad():
        model.norm.weight.fill_(math.nan)
    with pytest.raises(OrreryError, match="no numbers"):
        LM(model=model, tokenizer=tokenizer).generate("a", max_tokens=2)


def test_generating_from_a_model_in_training_has_no_dropout(make_model, tokenizer) -> None:
    lm = LM(model=make_model(tokenizer.vocab_size, dropout=0.5).train(), tokenizer=tokenizer)
    assert lm.generate("a", max_tokens=8) == lm.generate("a", max_tokens=8)
    assert lm.model.training


# --- files


def test_a_saved_model_speaks_the_same(save_lm, lm, tmp_path) -> None:
    folder = save_lm(lm, tmp_path / "model")
    loaded = orrery.load(folder)
    assert torch.equal(loaded.logits(SOME), lm.logits(SOME))
    assert loaded.generate("the", max_tokens=9) == lm.generate("the", max_tokens=9)
    assert isinstance(loaded.chat, ChatFormat)
    assert LM.load(folder / "model.safetensors").folder == folder
    assert (loaded.config.vocab_size, loaded.context) == (lm.tokenizer.vocab_size, 64)


def test_a_run_gives_its_newest_finished_model(save_lm, lm, tmp_path) -> None:
    save_lm(lm, tmp_path / "train-1")
    stages = [
        {"name": "train", "kind": "model", "folder": "train-1", "id": "x"},
        {"name": "more", "kind": "model", "folder": "train-2", "id": "y"},
    ]
    (tmp_path / "run.json").write_text(json.dumps({"stages": stages}))
    assert LM.load(tmp_path).folder == tmp_path / "train-1"  # the second did not finish
    save_lm(lm, tmp_path / "train-2")
    assert LM.load(tmp_path).folder == tmp_path / "train-2"
    (tmp_path / "run.json").unlink()
    assert LM.load(tmp_path).folder == tmp_path / "train-2"


def test_wrong_paths_are_explained(save_lm, lm, tmp_path) -> None:
    folder = save_lm(lm, tmp_path / "model")
    (tmp_path / "empty").mkdir()
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "run.json").write_text('{"stages": []}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    lm.tokenizer.save(tmp_path / "tokenizer")
    for path, says in [
        ("modle", "Did you mean"),
        ("empty", "no finished model"),
        ("empty/notes.txt", "does not lie in a model folder"),
        ("started", "no finished model yet"),
        ("broken", "damaged"),
        ("tokenizer", "a tokenizer but no model"),
    ]:
        with pytest.raises(OrreryError, match=says):
            LM.load(tmp_path / path)
    other = train_tokenizer(["abc"], TokenizerConfig(vocab_size=400))
    bigger = other.add_tokens([f"extra{i}" for i in range(100)])
    bigger.save(folder)
    with pytest.raises(OrreryError, match="do not belong together"):
        LM.load(folder)
    shutil.rmtree(tmp_path / "model")


def test_a_model_without_a_chat_format_still_writes(save_lm, lm, tmp_path) -> None:
    folder = save_lm(LM(model=lm.model, tokenizer=lm.tokenizer), tmp_path / "model")
    loaded = LM.load(folder)
    assert loaded.chat is None
    assert loaded.stop_ids == (lm.tokenizer.eos_id,)
    assert (
        loaded.generate("the", max_tokens=3, ignore_eos=True).ids
        == lm.generate("the", max_tokens=3, ignore_eos=True).ids
    )
