from __future__ import annotations

import json
import re
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.find import find_model
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.lm import LM
from orrery.text import Tokenizer
from tests.serve.grammar.cases import allowed, constraint, regex, trained, walk

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


# --- the mask is exact


@st.composite
def languages(draw, depth: int = 3) -> tuple[str, frozenset[str]]:
    """A regular expression and every text it matches."""
    kind = draw(st.sampled_from(["text", "or", "and", "maybe"] if depth else ["text"]))
    if kind == "text":
        text = draw(st.text(alphabet="abc ", min_size=1, max_size=3))
        return re.escape(text).replace("\\ ", " "), frozenset([text])
    one, left = draw(languages(depth=depth - 1))
    if kind == "maybe":
        return f"({one})?", left | {""}
    other, right = draw(languages(depth=depth - 1))
    if kind == "or":
        return f"({one}|{other})", left | right
    return f"({one})({other})", frozenset(a + b for a, b in product(left, right))


def expected(language: frozenset[str], text: bytes, tokenizer: Tokenizer, *, first: bool) -> set[int]:
    """By brute force: a token fits if some text of the language begins with what it leads to, the stop id where the text is whole."""
    table = tokenizer._pieces.first if first else tokenizer._pieces.rest
    starts = {whole.encode()[:n] for whole in language for n in range(len(whole.encode()) + 1)}
    special = {*tokenizer.special.values()}
    fit = {i for i, data in enumerate(table) if data and i not in special and text + data in starts}
    return fit | ({tokenizer.eos_id} if text in {whole.encode() for whole in language} else set())  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(language=languages(), kind=st.sampled_from(["bpe", "bpe-fallback", "unigram"]), data=st.data())
def test_mask_equals_brute_force(language, kind, data):
    source, texts = language
    assert all(re.fullmatch(source, text) for text in texts)
    tokenizer = trained(kind)
    c, ids = constraint(regex(source), tokenizer), []
    while not c.finished:
        text = tokenizer.decode_bytes(ids)
        assert set(allowed(c)) == expected(texts, text, tokenizer, first=not ids)
        assert c.may_end == (text.decode() in texts)
        ids.append(data.draw(st.sampled_from(sorted(allowed(c)))))
        c.accept(ids[-1])
    assert tokenizer.decode(ids, special=False) in texts


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6, unique=True),
    data=st.data(),
)
def test_choices_are_met_exactly(texts, data):
    """Any text is a choice: quotes, line breaks, characters of several bytes, one the beginning of another."""
    try:
        grammar = Grammar(kind="choice", source=json.dumps(texts, ensure_ascii=False))
        grammar.source.encode()
    except UnicodeEncodeError:
        return
    ids = walk(constraint(grammar), lambda n: data.draw(st.integers(0, n - 1)))
    assert trained().decode(ids, special=False) in texts


# --- state


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_going_back_and_forking_equal_a_replay(data):
    grammar = data.draw(
        st.sampled_from(
            [
                regex("(ab|c)*( b)?"),
                Grammar(kind="json_schema", source=json.dumps(PERSON)),
                Grammar(kind="choice", source='["abc", "abcd", "b c"]'),
                Grammar(kind="lark", source='start: "a" start "b" | "c"'),
            ]
        )
    )
    kind = data.draw(st.sampled_from(["bpe", "unigram"]))
    c, ids = constraint(grammar, trained(kind)), []
    for _ in range(data.draw(st.integers(1, 15))):
        action = data.draw(st.sampled_from(["take", "take", "take", "back", "fork"]))
        if action == "take" and not c.finished:
            options = allowed(c)
            ids.append(options[data.draw(st.integers(0, len(options) - 1))])
            c.accept(ids[-1])
        elif action == "back":
            n = data.draw(st.integers(0, len(ids)))
            c.rollback(n)
            ids = ids[: len(ids) - n]
        elif action == "fork":
            left, c = c, c.clone()
            if not left.finished:
                left.accept(allowed(left)[0])  # the fork does not feel it
        if data.draw(st.booleans()):
            continue
        replay = constraint(grammar, trained(kind))
        assert replay.accepts(ids) == len(ids)
        for id in ids:
            replay.accept(id)
        assert (c.finished, c.may_end) == (replay.finished, replay.may_end)
        if not c.finished:
            assert torch.equal(c.mask(), replay.mask())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_drafts_fit_as_far_as_they_would_be_taken(data):
    c, tokenizer = constraint(regex("[abc ]*|the cat")), trained()
    likely = [i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i).strip(b"abc ") == b""]
    ids = st.sampled_from([*likely, 1, 1]) | st.integers(0, tokenizer.vocab_size - 1)
    drafts = data.draw(st.lists(ids, max_size=6))
    fit = c.accepts(drafts)
    for at, id in enumerate(drafts):
        if at == fit:
            before = None if c.finished else c.mask()
            with pytest.raises(OrreryError, match="does not fit"):
                c.accept(id)
            assert before is None or torch.equal(c.mask(), before)
            return
        c.accept(id)
    assert fit == len(drafts)


def test_forced_ids_spell_what_must_come():
    tokenizer = trained()
    c = constraint(Grammar(kind="choice", source='["the cat sat", "the cat ran"]'))
    assert tokenizer.decode(c.forced()) == "the cat "
    assert c.accepts(c.forced()) == len(c.forced())
    whole = constraint(Grammar(kind="choice", source='["the cat sat"]'))
    for id in whole.forced():
        whole.accept(id)
    assert whole.finished and whole.forced() == []


# --- special tokens and stop ids


@pytest.mark.parametrize("kind", ["bpe", "bpe-fallback", "unigram"])
def test_special_tokens_never_match_text_and_the_text_ends_only_where_it_may(kind):
    tokenizer = trained(kind)
    c = constraint(regex("(.|\n)*x"), tokenizer)
    special = [i for i in tokenizer.special.values()]
    assert not c.mask()[special].any()
    for id in tokenizer.encode("<|user|>x" if kind != "unigram" else "cat x"):
        c.accept(id)
    assert [i for i in special if c.mask()[i]] == [tokenizer.eos_id]
    assert not c.mask()[tokenizer.vocab_size :].any()  # rows that no token has


def test_stop_ids_of_the_request_end_the_text_even_where_they_are_words():
    tokenizer = trained()
    (stop,) = tokenizer.encode("a")
    c = constraint(regex("ba*"), stop_ids=(stop, tokenizer.eos_id))
    assert not c.mask()[stop]  # the "a" it would spell is no end
    c.accept(*tokenizer.encode("b"))
    assert c.mask()[stop] and c.accepts([stop, stop]) == 1
    c.accept(stop)
    assert c.finished and c.accepts([stop]) == 0
    with pytest.raises(OrreryError, match="ends here"):
        c.mask()
    c.rollback(1)
    assert not c.finished and c.mask()[stop]


def test_rows_that_no_token_has_never_fit():
    """The model may have more rows than the tokenizer has ids; the first of them is no secret end of the text."""
    tokenizer = trained()
    c = constraint(regex("a*"))
    for id in (tokenizer.vocab_size, tokenizer.vocab_size + 1, -1):
        assert c.accepts([*tokenizer.encode("a"), id]) == 1
        with pytest.raises(OrreryError, match="does not fit"):
            c.accept(id)


def test_a_special_token_stands_where_the_grammar_names_it():
    tokenizer = trained()
    call = tokenizer.special["<|tool_call|>"]
    c = constraint(Grammar(kind="lark", source=f'start: "a" <[{call}]> "b"'))
    c.accept(*tokenizer.encode("a"))
    assert c.forced() == [] and c.accepts(tokenizer.encode("b")) == 0  # and asking changes nothing
    assert allowed(c) == [call]
    by_name = constraint(Grammar(kind="lark", source='start: "a" <|tool_call|> "b"'))
    assert by_name.accepts([*tokenizer.encode("a"), call]) == 2
    assert by_name.accepts(tokenizer.encode("a<|tool_call|>")) == 1


@pytest.mark.parametrize("kind", ["bpe-fallback", "unigram"])
def test_the_first_token_of_a_text_is_read_as_it_is_spelled_there(kind):
    """`▁a` at the start of a text spells "a", and " a" where the text goes on."""
    tokenizer = trained(kind)
    spaced = [i for i, data in enumerate(tokenizer._pieces.rest) if re.fullmatch(rb" [a-z]+", data or b"")]
    word = tokenizer.decode(spaced[:1])
    assert not word.startswith(" ")
    assert constraint(regex(word), tokenizer).mask()[spaced[0]]
    assert not constraint(regex(" " + word), tokenizer).mask()[spaced[0]]
    assert constraint(regex(" " + word), tokenizer, fresh=False).mask()[spaced[0]]


# --- with models


GRAMMARS = [
    Grammar(kind="json_schema", source=json.dumps(PERSON)),
    Grammar(kind="regex", source=r"(cat|dog)s?, \d{2,3}\."),
    Grammar(kind="choice", source='["yes", "no", "grüße"]'),
    Grammar(kind="lark", source='start: expr\nexpr: NUM | "(" expr "+" expr ")"\nNUM: /[0-9]/'),
]


def holds(grammar: Grammar, text: str) -> bool:
    match grammar.kind:
        case "json_schema":
            return person(json.loads(text))
        case "regex":
            return re.fullmatch(grammar.source, text) is not None
        case "choice":
            return text in json.loads(grammar.source)
    while (shorter := re.sub(r"\(\d\+\d\)", "1", text)) != text:
        text = shorter
    return re.fullmatch(r"\d", text) is not None


def person(value) -> bool:
    """PERSON, checked by hand."""
    return (
        isinstance(value, dict)
        and {"name", "age"} <= {*value} <= {"name", "age", "tags"}
        and isinstance(value["name"], str)
        and len(value["name"]) <= 8
        and type(value["age"]) is int
        and 0 <= value["age"] <= 130
        and isinstance(value.get("tags", []), list)
        and len(value.get("tags", [])) <= 2
        and {*value.get("tags", [])} <= {"a", "b"}
    )


@pytest.mark.parametrize("grammar", GRAMMARS, ids=lambda grammar: grammar.kind)
def test_what_a_random_model_writes_matches(tokenizer, make_model, grammar):
    """Masked logits of a model that knows nothing: every text that ends is valid."""
    lm = LM(model=make_model(tokenizer.vocab_size + 5, max_positions=160), tokenizer=tokenizer)
    ended = 0
    for seed in range(8):
        c = Constraint.compile(grammar, lm.tokenizer, vocab=lm.config.vocab_size, stop_ids=lm.stop_ids)
        ids, random = [lm.tokenizer.bos_id], torch.Generator().manual_seed(seed)
        while not c.finished and len(ids) < lm.context:
            logits = lm.logits(ids)[-1].masked_fill(~c.mask(), -torch.inf)
            ids.append(int(torch.multinomial((logits / 2).softmax(-1), 1, generator=random)))
            c.accept(ids[-1])
        if c.finished:
            ended += 1
            assert holds(grammar, lm.tokenizer.decode(ids[1:], special=False))
    assert ended >= 2


def test_the_real_vocabulary_of_gemma():
    """262,144 tokens, bytes among them twice (`<0x0A>` and the line break): the mask is the brute-force one."""
    try:
        tokenizer = Tokenizer.load(find_model("gemma-3-270m"))
    except OrreryError as error:
        pytest.skip(f"the demo weights are not installed: {error}")
    choices = ["Z\n東京", "Zug", "{\n"]
    c = constraint(Grammar(kind="choice", source=json.dumps(choices)), tokenizer, vocab=262_144)
    ids: list[int] = []
    for id in tokenizer.encode("Z\n東京"):
        text = tokenizer.decode_bytes(ids)
        assert {*allowed(c)} == expected(frozenset(choices), text, tokenizer, first=False)
        c.accept(id)
        ids.append(id)
    assert c.finished and allowed(c) == [tokenizer.eos_id]
    schema = constraint(Grammar(kind="json_schema", source=json.dumps(PERSON)), tokenizer, vocab=262_144)
    ids = tokenizer.encode('{"name": "Zoë 🎉", "age": 41}')
    assert schema.accepts([*ids, tokenizer.eos_id]) == len(ids) + 1
