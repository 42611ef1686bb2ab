from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict

import pytest

from orrery.evaluate.scorers import ScoreContext, find
from orrery.evaluate.scorers.ifeval import versions
from orrery.evaluate.scorers.instructions import CHECKS, follows
from orrery.evaluate.scorers.instructions.language import detect_language
from orrery.evaluate.scorers.instructions.sentences import sentences
from orrery.kit.errors import OrreryError

ENGLISH = "the cat sat on the mat and it was happy with that"
# instruction, settings, a response that follows, one that does not
CASES = [
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "I SEE a cat", "SEE a cat"),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "SEE a cat", "I SEE a cat"),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH.capitalize()),
    ("change_case:english_capital", {}, ENGLISH.upper(), "DIE KATZE IST NICHT AUF DER MATTE UND SIE IST FROH"),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Write a poem."}, "write a poem. Roses are red", "Roses are red. Write a poem."),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:two_responses", {}, "******\none\n******\ntwo", "one\n******\ntwo\n******\nthree"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] lives at [address]", "[name] lives here"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. more", "Bye. PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye.\nP.P.S more", "Bye.\nP.S. more"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "Maybe."),
    ("detectable_format:json_format", {}, '```json\n{"a": [1, 2]}\n```', "{'a': 1}"),
    ("detectable_format:json_format", {}, '{"a": 1}', 'Here it is: {"a": 1}'),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2}, "SECTION 1\nx\nSECTION 2\ny", "SECTION 1\nx"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n* two\n* three"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "* one\n**bold**", "none"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", "*one* and ** **"),
    ("detectable_format:title", {}, "<<Joy>>\ntext", "<< >>\ntext"),
    ("keywords:existence", {"keywords": ["tea", "milk"]}, "Tea with Milk", "tea"),
    ("keywords:forbidden_words", {"forbidden_words": ["can"]}, "a candle", "you CAN"),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "at least"}, "tea, Tea", "tea"),
    ("keywords:frequency", {"keyword": "tea", "frequency": 2, "relation": "less than"}, "tea", "tea tea"),
    ("keywords:letter_frequency", {"letter": "e", "let_frequency": 2, "let_relation": "at least"}, "Ease", "tea"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "less than"}, "none", "# one"),
    ("language:response_language", {"language": "de"}, "Die Katze ist nicht auf der Matte.", ENGLISH),
    ("language:response_language", {"language": "hi"}, "यह एक अच्छा दिन है और मैं खुश हूँ।", "हा एक चांगला दिवस आहे आणि मी आनंदी आहे."),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Send"},
     'One.\n\n"Send, now', "One.\n\nNow send"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "one"}, "One.\n\nTwo", "One."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n\ntwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\none\n***\ntwo", "one\n***\n***\ntwo"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "Dr. Who? Yes.", "Dr. Who is it."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Only one, e.g. this.", "One. Two."),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two three", "one two"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", "one two three"),
    ("punctuation:no_comma", {}, "one two", "one, two"),
    ("startend:end_checker", {"end_phrase": "Peace!"}, 'Bye. peace!"', "Peace! Bye."),
    ("startend:quotation", {}, '"all of it"', '"some" of it'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "good", "bad"), CASES)
def test_a_check_passes_and_fails(name, settings, good, bad) -> None:
    assert follows(name, settings, good)
    assert not follows(name, settings, bad)


def test_all_25_instructions_have_cases() -> None:
    assert len(CHECKS) == 25
    assert {name for name, *_ in CASES} == set(CHECKS)


def test_every_published_instruction_is_understood(shared_data) -> None:
    """Every id and setting of the data is accepted, also with a table's empty cells; the requests themselves are judged."""
    rows = [json.loads(line) for line in (shared_data / "ifeval/input_data.jsonl").read_text().splitlines()]
    seen = defaultdict(int)
    for row in rows:
        for name, kwargs in zip(row["instruction_id_list"], row["kwargs"], strict=True):
            assert isinstance(follows(name, {**kwargs, "unused": None}, row["prompt"]), bool)
            seen[name] += 1
    assert seen.keys() == CHECKS.keys()


def test_wrong_instructions_are_refused() -> None:
    with pytest.raises(
        OrreryError, match=r"no instruction 'keywords:existance'\. Did you mean 'keywords:existence'"
    ):
        follows("keywords:existance", {}, "x")
    with pytest.raises(OrreryError, match="needs keywords; given: none"):
        follows("keywords:existence", {}, "x")
    with pytest.raises(OrreryError, match="'at least' or 'less than'"):
        follows("length_constraints:number_words", {"num_words": 1, "relation": "about"}, "x")


def test_four_numbers_by_prompt_and_by_instruction() -> None:
    row = {
        "instruction_id_list": ["punctuation:no_comma", "startend:end_checker", "detectable_format:title"],
        "kwargs": [{}, {"end_phrase": "Peace!"}, {"keywords": None}],
    }
    found = find("ifeval")("<<War, peace>>\nIt is, **Peace!**", row, ScoreContext())
    assert found["prompt_strict"] == found["prompt_loose"] == 0
    assert found["instruction_strict"] == pytest.approx(1 / 3)
    assert found["instruction_loose"] == pytest.approx(2 / 3)  # without asterisks it ends as asked
    assert found["instruction_strict"].weight == 3
    sure = find("ifeval")("Sure, here:\n<<War>>\nPeace!", row, ScoreContext())
    assert (sure["prompt_strict"], sure["prompt_loose"]) == (0, 1)
    assert find("ifeval")("  ", {**row, "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, ScoreContext()) == {
        "prompt_strict": 0, "instruction_strict": 0, "prompt_loose": 0, "instruction_loose": 0,
    }  # fmt: skip


def test_eight_versions_of_a_response() -> None:
    assert versions("a\n*b*\nc") == ["a\n*b*\nc", "*b*\nc", "a\n*b*", "*b*", "a\nb\nc", "b\nc", "a\nb", "b"]


UDHR = dict(
    arb="ar", bel="be", ben="bn", ces="cs", cmn_hans="zh", dan="da", ell_polytonic="el", eng="en", fin="fi", fra="fr", guj="gu",
    heb="he", hin="hi", jpn="ja", kor="ko", lao="lo", mar="mr", mkd="mk", nep="ne", nld="nl", pan="pa", pes_1="fa", pol="pl",
    por_PT="pt", ron="ro", rus="ru", spa="es", srp_cyrl="sr", swh="sw", tam="ta", tha="th", vie="vi",
)  # fmt: skip


def test_languages_are_told_apart_on_the_declaration_of_human_rights(shared_data) -> None:
    texts = {}
    with gzip.open(shared_data / "pretrain/multi_udhr.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            texts[row["id"]] = row["text"]
    right = total = 0
    for name, code in UDHR.items():
        pieces = re.findall(r".{100,}?(?: |$)|.{100}", " ".join(texts[name].split()))[2:]
        found = [detect_language(piece) == code for piece in pieces]
        assert sum(found) / len(found) > 0.85, code
        right, total = right + sum(found), total + len(found)
    assert total > 2000
    assert right / total > 0.97


def test_languages_of_translated_problems(shared_data) -> None:
    with gzip.open(shared_data / "mgsm/mgsm.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert sum(detect_language(row["question"]) == row["lang"] for row in rows) >= len(rows) - 3


def test_what_has_no_letters_has_no_language() -> None:
    assert detect_language("") is None
    assert detect_language("12 + 7 = 19 !") is None


def test_sentences_by_their_rules() -> None:
    assert sentences("Dr. Smith went to the U.S. yesterday. He paid $3.50 for it! Why? I don't know...") == [
        "Dr. Smith went to the U.S. yesterday.", "He paid $3.50 for it!", "Why?", "I don't know...",
    ]  # fmt: skip
    assert len(sentences("1. First item.\n2. Second item.\n\nDone")) == 3
    assert len(sentences('He said "Stop." Then he left.')) == 2
    assert len(sentences('"Stop!" he said.')) == 1
    assert len(sentences("hello. how are you? fine.")) == 3
    assert len(sentences("J. K. Rowling wrote it. I did.")) == 2
    assert len(sentences("你好。你是谁？我很好")) == 3
    assert len(sentences("It was 5 p.m. The end.")) == 2
    assert sentences(" ... \n\n ") == []


def test_sentences_of_abstracts_that_are_stored_by_sentence(shared_data) -> None:
    with gzip.open(shared_data / "scitldr/scitldr.jsonl.gz", "rt") as file:
        sources = [json.loads(line)["source"] for line in file]
    right = [len(sentences(" ".join(part.strip() for part in source))) == len(source) for source in sources]
    assert sum(right) / len(right) > 0.9
