"""Exhibits of truthfulness: true of the world or of the source, made up or withheld, and what of a context gets in."""

from __future__ import annotations

from orrery.evaluate.long_context.words import ADJECTIVES, NAMES, NOUNS, keys
from orrery.evaluate.truth.alias import tells
from orrery.evaluate.truth.ask import Answer, Asking, Question, ask
from orrery.evaluate.truth.factuality import cell
from orrery.evaluate.truth.faithfulness import faithfulness
from orrery.evaluate.truth.hallucination import hallucination
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _prepared
from orrery.glossary.exhibits._recall import Lesson, teach, word_tokenizer
from orrery.kit.seeds import numpy_generator
from orrery.text.chat import CONTROL, ChatFormat
from orrery.text.context_budget import Passage, assemble


def true_or_only_faithful() -> Exhibit:
    """Four answers to one question beside a source that is wrong, scored against the world and against the source."""
    source = "Australia is a country in Oceania. Its capital is Sydney. The capital lies in New South Wales."
    question = Question(question="What is the capital of Australia?", answers=("Canberra",), passage=source)
    rows = []
    for text in (
        "Its capital is Sydney.",
        "Its capital is Canberra.",
        "Its capital is Melbourne.",
        "Its capital is Sydney, and it was founded in 1913.",
    ):
        answer, judged = (
            Answer(question=question, text=text, confidence=1.0),
            faithfulness(text, source),
        )
        rows.append(
            (
                text,
                tells(text, question.answers),
                f"{judged.supported} of {judged.judged}",
                cell(answer, judged),
            )
        )
    return Exhibit(
        title=f"The source says: {source}",
        columns=(
            "answer",
            "factual (Canberra)",
            "claims the source supports",
            "factual, faithful, both or neither",
        ),
        rows=rows,
        reads="Repeating the source is faithful and false; knowing better is true and unfaithful. A system that answers from documents is judged by the claims they "
        "support, a model on its own by the facts: one number for both would be neither.",
    )


def made_up_or_withheld() -> Exhibit:
    """A small model that learned 30 facts, asked for these and for others: with answers forced, withheld, or read from a passage."""
    named, rng = keys(90, 0, "facts"), numpy_generator(0, "facts")
    people = [NAMES[i] for i in rng.integers(0, len(NAMES), len(named))]
    facts = [
        Question(question=f"Who owns the {key}?", answers=(name,))
        for key, name in zip(named, people, strict=True)
    ]
    given = [
        Question(question=q.question, answers=q.answers, passage=f"{name} owns the {key}.")
        for q, key, name in zip(facts, named, people, strict=True)
    ]
    asking = Asking(
        tokenizer=word_tokenizer((*ADJECTIVES, *NOUNS, *NAMES, "Who owns the? Question: Answer:")),
        instruction="",
    )
    id_of = asking.tokenizer.id
    lessons: list[Lesson] = []
    for _ in range(600):
        known = facts[rng.integers(30)]
        lessons.append((asking.ids(known), id_of(known.answers[0])))
        key = f"{ADJECTIVES[rng.integers(len(ADJECTIVES))]} {NOUNS[rng.integers(len(NOUNS))]}"
        name = NAMES[rng.integers(len(NAMES))]
        read = Question(question=f"Who owns the {key}?", passage=f"{name} owns the {key}.")
        lessons.append((asking.ids(read), id_of(name)))
    lm = teach(asking.tokenizer, lessons, steps=80)
    # half of what it was never told sets the threshold, the other half is reported
    tried = ask(lm, facts[30:60], asking=asking, max_tokens=1)
    threshold = sorted(a.confidence for a in tried)[int(0.95 * len(tried))]
    asked = [*facts[:30], *facts[60:]]
    closed = ask(lm, asked, asking=asking, max_tokens=1)
    opened = ask(lm, [*given[:30], *given[60:]], asking=asking, max_tokens=1)
    rows = []
    for name, answers, least in (
        ("closed book", closed, 0.0),
        ("closed book, unsure answers withheld", closed, threshold),
        ("with the passage to read", opened, 0.0),
    ):
        found = hallucination(answers, threshold=least)
        rows.append(
            (
                name,
                f"{found.rate.mean:.2f} [{found.rate.low:.2f}, {found.rate.high:.2f}]",
                found.accuracy.mean,
                found.withheld.mean,
                found.coverage.mean,
            )
        )
    return Exhibit(
        title="60 questions, half about facts it was taught and half about facts it never saw",
        columns=("asked", "wrong answers [interval]", "right", "withheld", "answered"),
        rows=rows,
        reads="Asked for what it never saw, the model names somebody all the same, only less surely. A threshold on that confidence, set on other questions, turns most "
        "inventions into silence; a passage that holds the answer turns them into right answers.",
    )


def what_gets_into_a_prompt() -> Exhibit:
    """Instructions, a conversation, documents and a tool's output under ever tighter limits: what became of each."""
    chat = ChatFormat(
        _prepared.tokenizer().add_tokens(
            [c for c in CONTROL if c not in _prepared.tokenizer().special], special=True
        )
    )
    texts = _prepared.pieces(60)
    long = [text for text in texts if 400 < len(text) < 2500]
    passages = [
        Passage(text=long[0], name="best document", score=0.9),
        Passage(text=long[1], name="second document", score=0.6),
        Passage(text=long[0], name="copy of the best", score=0.5),
        Passage(text=long[2], name="output of a tool", kind="tool"),
    ]
    history = [
        {"role": role, "content": texts[i][:200]}
        for i, role in enumerate(("user", "assistant", "user", "assistant"))
    ]
    made = {
        limit: assemble(
            chat,
            question="What does this module do?",
            instructions="Answer briefly.",
            history=history,
            passages=passages,
            limit=limit,
        )
        for limit in (4000, 800, 400, 150)
    }
    first, *_ = made.values()
    rows: list[tuple[object, ...]] = [
        (
            fate.name,
            fate.tokens,
            *(f"{m.fates[i].action}, {m.fates[i].kept} tokens" for m in made.values()),
        )
        for i, fate in enumerate(first.fates)
    ]
    rows.append(("the whole prompt", "", *(f"{len(m.ids)} tokens" for m in made.values())))
    return Exhibit(
        title="One question with its surroundings, assembled for four limits",
        columns=("piece", "tokens", *(f"at most {limit}" for limit in made)),
        rows=rows,
        reads="A copy is never worth its tokens. As the limit tightens, the oldest exchange goes first, long passages are cut to what bears on the question, and the "
        "least wanted are dropped; the prompt stays within the limit by the chat format's own count, and every loss is told.",
    )
