"""Exhibits of word vectors: windows by hand, four ways to train them, analogies, pieces of words, the first neural LM."""

from __future__ import annotations

import functools
import math
import re
import tempfile
from pathlib import Path

import numpy as np
import torch

from orrery.evaluate.ngram import fit_ngram
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library
from orrery.kit.seeds import numpy_generator
from orrery.model.word_vectors.fasttext import FastTextConfig, bucket, char_ngrams, train_fasttext
from orrery.model.word_vectors.glove import GloveConfig, cooccurrences, train_glove, weight
from orrery.model.word_vectors.neural_lm import NeuralLmConfig, train_neural_lm
from orrery.model.word_vectors.similarity import Question, WordVectors, score_analogies
from orrery.model.word_vectors.text_format import read_vectors, write_vectors
from orrery.model.word_vectors.vocabulary import count_words
from orrery.model.word_vectors.windows import NONE, pairs, windows
from orrery.model.word_vectors.word2vec import Trained, Word2Vec, Word2VecConfig, train_word2vec

Text = list[list[str]]

COUNTRIES = ["france", "italy", "spain", "japan", "egypt", "peru", "kenya", "norway"]
CAPITALS = ["paris", "rome", "madrid", "tokyo", "cairo", "lima", "nairobi", "oslo"]
TOPICS = [
    "louvre seine baguette", "tiber espresso forum", "flamenco paella prado", "sushi shrine sumo",
    "nile pyramid pharaoh", "inca llama andes", "safari savanna acacia", "fjord viking salmon",
]  # fmt: skip
ROLES = {"country": ["border", "treaty", "army", "flag"], "capital": ["street", "tower", "metro", "mayor"]}
QUESTIONS: list[Question] = [
    (a, b, c, d)
    for a, b in zip(COUNTRIES, CAPITALS, strict=True)
    for c, d in zip(COUNTRIES, CAPITALS, strict=True)
    if a != c
]


@functools.cache
def _world() -> Text:
    """2000 sentences: a name, two words of its role, two of its topic and one of any kind, in any order."""
    generator = numpy_generator(0, "world")
    anything = [word for words in (*ROLES.values(), *(t.split() for t in TOPICS)) for word in words]
    made = []
    for _ in range(2000):
        role, topic = ("country", "capital")[generator.integers(2)], int(generator.integers(8))
        words = [(COUNTRIES if role == "country" else CAPITALS)[topic], str(generator.choice(anything))]
        words += map(str, generator.choice(ROLES[role], 2, replace=False))
        words += map(str, generator.choice(TOPICS[topic].split(), 2, replace=False))
        made.append([words[i] for i in generator.permutation(len(words))])
    return made


@functools.cache
def _trained(name: str) -> Trained:
    """Vectors of `_world`, each method with settings that suit its few words."""
    if name == "GloVe":
        return train_glove(_world(), GloveConfig(dim=16, epochs=30, lr=0.1, x_max=20))
    if name == "CBOW":
        return train_word2vec(_world(), Word2VecConfig(dim=24, epochs=6, lr=0.03, objective="cbow"))
    return train_word2vec(_world(), Word2VecConfig(dim=24, epochs=6, lr=0.02))


def windows_by_hand() -> Exhibit:
    """The windows of 'the quick brown fox jumps', two words each way: rows for CBOW, pairs for skip-gram, and for GloVe."""
    sentence = ["the", "quick", "brown", "fox", "jumps"]
    vocabulary = count_words([sentence])
    ids = vocabulary.encode([sentence])
    rows, found = windows(ids, window=2), pairs(ids, window=2)
    x = cooccurrences(ids, vocab_size=len(vocabulary), window=2)
    counted = {(int(i), int(j)): float(c) for i, j, c in zip(x.rows, x.columns, x.counts, strict=True)}
    names = vocabulary.words
    table = []
    for centre, contexts in zip(rows.centres.tolist(), rows.contexts.tolist(), strict=True):
        mine = found.contexts[found.centres == centre].tolist()
        around = " ".join("-" if i == NONE else names[i] for i in contexts)
        cells = " ".join(f"{counted[centre, i]:g}" for i in mine)
        table.append((names[centre], around, ", ".join(f"{names[centre]}>{names[i]}" for i in mine), cells))
    return Exhibit(
        title=f"{len(rows.centres)} rows and {len(found.centres)} pairs from five words",
        columns=("centre", "CBOW: from these, the centre", "skip-gram: from the centre, each", "GloVe: 1/distance"),
        rows=table,
        reads="One text, three readings. CBOW averages a row and guesses the centre once; skip-gram turns the row into as many guesses as it has words, so it "
        "learns more from a rare word and takes longer; GloVe adds each pair, by nearness, to a table and never looks at the text again.",
    )  # fmt: skip


def word_vector_losses() -> Exhibit:
    """Skip-gram and CBOW with five negatives on the same 2000 sentences: loss by epoch, and analogies solved at the end."""
    trained = {name: _trained(name) for name in ("skip-gram", "CBOW")}
    start = 6 * math.log(2)
    ids = torch.arange(4)
    new = Word2Vec(8, 4).skip_gram(ids, ids + 4, torch.tensor([[0, 1, 2, 3, 0]] * 4))
    return Exhibit(
        title=f"Nats a guess; a model that knows nothing pays 6 log 2 = {start:.3f} (measured {new.sum.item() / new.weight:.3f})",
        columns=("objective", "first epoch", "last epoch", "analogies right", "of"),
        rows=[
            (name, t.losses[0], t.losses[-1], (s := score_analogies(t.vectors, QUESTIONS)).correct, s.asked)
            for name, t in trained.items()
        ],
        series=[
            Series(name=name, x=list(range(1, len(t.losses) + 1)), y=t.losses) for name, t in trained.items()
        ],
        x="epoch", y="loss",
        reads="Each guess is six yes-or-no questions: the right word and five drawn ones. Both losses fall far below chance and neither goes to zero, because "
        "many words fit a place. What is wanted is not the guess but the vectors left over, and those solve the analogies.",
    )  # fmt: skip


def glove_weighs_counts() -> Exhibit:
    """GloVe's weight f(x), its fit of log counts on 2000 sentences, and its text format written and read back."""
    trained = _trained("GloVe")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.txt"
        write_vectors(trained.vectors, path)
        same = bool((read_vectors(path).matrix == trained.vectors.matrix).all())
        first = path.read_text(encoding="utf-8").split("\n")[0]
    counts = [0.5, 1, 5, 10, 50, 100, 1000]
    score = score_analogies(trained.vectors, QUESTIONS)
    return Exhibit(
        title=f"x_max 100, alpha 3/4; file read back identical: {same}; first line: {first[:42]}...",
        columns=("x", "f(x)"),
        rows=[(x, float(weight(torch.tensor(x)))) for x in counts],
        series=[
            Series(name="weighted squared error", x=list(range(1, len(trained.losses) + 1)), y=trained.losses)
        ],
        x="epoch", y="loss a cell", log_y=True,
        reads="A cell seen once weighs 3 percent of one seen a hundred times; beyond that, more counts no longer weigh more. The vectors solve "
        f"{score.correct} of {score.asked} analogies though they never met the text, only its table of counts.",
    )  # fmt: skip


def analogies_by_addition() -> Exhibit:
    """France is to Paris as Italy is to ...? 56 such questions by three methods and by chance, and what the usual rule hides."""
    names = ("skip-gram", "CBOW", "GloVe")
    vectors = {name: _trained(name).vectors for name in names}
    words = vectors["skip-gram"].words
    chance = numpy_generator(0, "chance").standard_normal((len(words), 24)).astype(np.float32)
    vectors["random"] = WordVectors(words, chance)
    rows = []
    for name, v in vectors.items():
        free = score_analogies(v, QUESTIONS, leave_out_question=False)
        near = [v.neighbours(c, k=1)[0][0] == d for _, _, c, d in QUESTIONS]
        answer, score = v.analogy("france", "paris", "italy")[0][0], score_analogies(v, QUESTIONS)
        rows.append((name, answer, score.accuracy, free.accuracy, sum(near) / len(near)))
    return Exhibit(
        title="Planted text: every name stands near words of its role and words of its topic",
        columns=("vectors", "answer", "right", "right, own words allowed", "right, c's neighbour alone"),
        rows=rows,
        reads="Role and topic add up in the text, so they add up in the vectors, and subtraction takes them apart. The usual score forbids the three words asked about. "
        "Here that changes nothing, as roles are as strong as topics; where the step from a to b is short, as in most real text, c itself would be nearest. "
        "The last column answers with c's nearest word, without a and b: what an analogy must beat.",
    )  # fmt: skip


def neighbours_in_library_text() -> Exhibit:
    """Skip-gram on the words of Python's own library: which words it puts next to which, with nobody having told it."""
    lines = "\n".join(_library.texts()[::3]).splitlines()
    text = [re.findall(r"[A-Za-z]{2,}", line.lower()) for line in lines]
    config = Word2VecConfig(dim=32, epochs=2, window=3, min_count=15, subsample=1e-3, lr=0.02, batch_size=512)
    trained = train_word2vec(text, config)
    asked = [w for w in ("month", "path", "raise", "str", "socket", "true", "if") if w in trained.vectors.ids]
    rows = []
    for word in asked:
        near = trained.vectors.neighbours(word, k=5)
        rows.append((word, ", ".join(w for w, _ in near), near[0][1]))
    total = sum(map(len, text))
    return Exhibit(
        title=f"{total:,} words, {len(trained.vectors.words):,} of them different and frequent enough, 32 numbers each",
        columns=("word", "nearest", "cosine of the first"),
        rows=rows,
        reads="Words that stand in the same places come to lie together: names of one trade, keywords that replace each other. So do opposites, which share "
        "their surroundings; near means used alike, not meaning the same.",
    )  # fmt: skip


def words_from_pieces() -> Exhibit:
    """FastText: 'walking' was never in the text; its vector is made of pieces it shares with words that were."""
    generator = numpy_generator(0, "pieces")
    topics = [["walk", "climb", "jump", "paddle"], ["cook", "bake", "roast", "grill"]]
    around = [["road", "hill", "shoes", "mile", "path"], ["oven", "pan", "salt", "dinner", "sauce"]]
    text = []
    for _ in range(1500):
        topic = int(generator.integers(2))
        word = topics[topic][generator.integers(4)] + ("", "ing", "er")[generator.integers(3)]
        if word not in ("walking", "roaster"):
            text.append([word, *map(str, generator.choice(around[topic], 3, replace=False))])
    config = FastTextConfig(dim=16, epochs=8, lr=0.01, buckets=2000, batch_size=256)
    model = train_fasttext(text, config).model
    vectors = model.vectors()
    rows = []
    for word in ("walking", "roaster", "climbable"):
        near = ", ".join(w for w, _ in vectors.nearest(model.vector(word), k=5))
        known = {row for w in vectors.words for row in model.rows_of(w)}
        shared = sum(row in known for row in model.rows_of(word))
        rows.append(
            (word, " ".join(char_ngrams(word, longest=3)), f"{shared} of {len(model.rows_of(word))}", near)
        )
    return Exhibit(
        title=f"Unseen words; '<wh' is row {bucket('<wh', 2_000_000):,} of the paper's 2,000,000",
        columns=("word", "n-grams of 3", "pieces trained", "nearest known words"),
        rows=rows,
        reads="The stem's pieces were trained inside its other forms, so the unseen form lands in its family. An ending shared by both families says nothing about "
        "the topic, and a word of which no piece was trained would get noise.",
    )  # fmt: skip


def neural_lm_carries_over() -> Exhibit:
    """Who does what, a fifth of the combinations held back: a network over word vectors against smoothed trigram counts."""
    groups = {
        "anna ben carl dora emil fay": "speaks reads writes sings votes",
        "cat dog horse cow owl fox": "barks grazes hunts sleeps digs",
    }
    every = [
        ["the", who, does]
        for people, verbs in groups.items()
        for who in people.split()
        for does in verbs.split()
    ]
    generator = numpy_generator(0, "who does what")
    held = [every[i] for i in generator.choice(len(every), 12, replace=False)]
    rest = [sentence for sentence in every if sentence not in held]
    seen = [rest[i] for i in generator.integers(len(rest), size=600)]
    config = NeuralLmConfig(context=2, dim=4, hidden=8, epochs=8, lr=0.01, batch_size=32)
    trained = train_neural_lm(seen, config)
    vocabulary = trained.vocabulary
    counts = fit_ngram(vocabulary.encode(seen), order=3, vocab_size=len(vocabulary))
    last: dict[str, list[float]] = {"network": [], "trigram": []}
    for *before, verb in held:
        last["network"].append(trained.next(before)[vocabulary.ids[verb]])
        last["trigram"].append(float(counts.next(vocabulary.encode([before])[0])[vocabulary.ids[verb]]))
    near = {w: ", ".join(n for n, _ in trained.vectors().neighbours(w, k=3)) for w in ("anna", "cow")}
    return Exhibit(
        title=f"The verb of {len(held)} sentences never seen. Near anna: {near['anna']}; near cow: {near['cow']}",
        columns=("model", "mean probability", "perplexity of the verb"),
        rows=[(name, float(np.mean(p)), float(np.exp(-np.mean(np.log(p))))) for name, p in last.items()],
        series=[
            Series(name="network's loss", x=list(range(1, len(trained.losses) + 1)), y=trained.losses)
        ],
        x="epoch", y="nats a word",
        reads="Five verbs are possible for each subject, so 0.2 would be perfect. The table saw every pair it knows a dozen times and none of the others, so smoothing "
        "finds the others next to impossible. The network has learned that cow and horse are used alike, and what follows one it expects of the other: the argument of the 2003 paper.",
    )  # fmt: skip
