"""Exhibits on a model that criticises, mends and judges answers in the place of people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orrery.evaluate import generators
from orrery.evaluate.subject import Subject
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits._choosing import GENERATED, loop, taught
from orrery.glossary.exhibits._mending import COLOURS, LOOK, MEND, answer, asked, taught_to_mend
from orrery.glossary.exhibits._reasoning import quiet_folder
from orrery.kit.config import resolve
from orrery.kit.json_lines import write_rows
from orrery.kit.lm import Score, ScoreRequest
from orrery.serve.lm import LM
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.tune.examples import Renderer
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.preference.config import PreferenceConfig
from orrery.tune.preference.material import gather_comparisons
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.preference.trainer import prefer
from orrery.tune.rl.problems import Problem
from orrery.tune.selfdata.asked import Asked, read_asked
from orrery.tune.selfdata.config import SampleConfig
from orrery.tune.selfdata.constitutional import Constitutional, sample_constitution
from orrery.tune.selfdata.preferences import Candidates, label
from orrery.tune.selfdata.principles import read_constitution
from orrery.tune.selfdata.rounds import learn
from orrery.tune.selfdata.sample import EXAMPLES, PAIRS, sample, write
from orrery.tune.selfdata.self_critique import Critique, sample_critiques
from orrery.tune.selfdata.speaker import Ask, Speaker, Speech, question

ROWS = ExampleLoaderConfig(context=64, rows=8)


def _kindness(lm: LM, seed: int = 0) -> float:
    """The share of kind answers among eight to each question."""
    asks = [Ask(("measured", thing), question(asked(thing)), n=8) for thing in COLOURS]
    said = Speaker(Subject.of(lm), seed=seed).answers(asks, Speech(max_tokens=12))
    return sum("friend" in one.text for group in said for one in group) / (8 * len(COLOURS))


def _principle(folder: Path) -> str:
    path = folder / "kind.yaml"
    path.write_text(
        f'principles:\n  - {{name: kind, critique: "{LOOK}", revise: "{MEND}", prefer: Choose the kinder answer.}}\n'
    )
    return str(path)


def answers_mended_by_a_principle() -> Exhibit:
    """A model that is mostly rude criticises and mends its answers by one principle, and then learns what it mended."""
    with quiet_folder() as folder:
        write_rows(folder / "q.jsonl", [{"question": asked(thing), "answer": "?"} for thing in COLOURS])
        lm = taught_to_mend().lm()
        before = _kindness(lm)
        method = {
            "kind": "constitution",
            "file": _principle(folder),
            "revisions": 1,
            "shown": 0,
            "compare": "none",
        }
        cfg = resolve(
            SampleConfig,
            {"method": method, "prompts": [{"paths": ["q.jsonl"]}], "speech": {"max_tokens": 12}},
        )
        made = sample(cfg, Subject.of(lm), root=folder)
        write(made, folder)
        learn(folder / EXAMPLES, loop(10), lm=lm, out=folder / "learned", loader=ROWS)
        after = _kindness(lm)
    revised = sum("friend" in row["messages"][-1]["content"] for row in made.examples)
    return Exhibit(
        title="kind answers before and after learning from revisions",
        reads="Nobody showed it a kind answer to these questions in this run: it knew kindness when asked about it, and now says it unasked. "
        "What a model cannot recognise it cannot teach itself so.",
        columns=("what", "kind"),
        rows=[
            ("answers before", before),
            (f"its {len(made.examples)} revisions", revised / len(made.examples)),
            ("answers after learning these", after),
        ],
    )  # fmt: skip


def an_answer_that_is_criticised() -> Exhibit:
    """Draft, criticise, mend, until the criticism finds nothing: kind answers before and after."""
    rows = []
    for name, look in (("is that rude?", LOOK), ("what colour is ash?", asked("ash"))):
        found = [_wanted(thing) for thing in COLOURS]
        cfg = Critique(rounds=2, critique=look, revise=MEND, satisfied=r"\bno\b")
        made = sample_critiques(cfg, found, Speaker(Subject.of(taught_to_mend().lm())), Speech(max_tokens=12))
        numbers = made.account.numbers
        rows.append(
            (name, *(numbers[key] for key in ("before", "after", "spoilt", "satisfied", "revisions")))
        )
    return Exhibit(
        title="draft, criticise, mend",
        reads="A criticism to the point sees what is wrong, and stops the work where nothing is. One beside the point never stops it, and "
        "what is mended then is left to chance.",
        columns=("it asks itself", "kind before", "after", "spoilt", "satisfied", "revisions"),
        rows=rows,
    )


def _wanted(thing: str) -> Asked:
    """A question whose right answer is the kind one."""
    right = answer(thing, kind=True)
    problem = Problem(row={"answer": right}, prompt=asked(thing), target=right, score="verbatim", id=thing)
    return Asked(thing, tuple(question(asked(thing))), problem)


@dataclass
class _Labeller:
    """A labeller whose habits are known: nats for what stands first, and for each answer in capitals."""

    tokenizer: Tokenizer
    place: float
    taste: float = 1.0

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        return [self._score(self.tokenizer.decode(list(request.ids))) for request in requests]

    def _score(self, text: str) -> Score:
        a, b = (text.split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0] for tag in ("answer_a", "answer_b"))
        worth = self.place + self.taste * (a.isupper() - b.isupper())
        value = worth / 2 if text.endswith("A") else -worth / 2
        return Score(nats=-value, tokens=1, bytes=1, logprobs=(value,))

    def speaker(self) -> Speaker:
        return Speaker(Subject(lm=self, tokenizer=self.tokenizer, context=1 << 20, name="labeller"))  # type: ignore[bad-argument-type]


def labels_in_both_orders() -> Exhibit:
    """A labeller that likes capitals, and the first place the more the further down: what one order says, and what both say."""
    held = [read_constitution().principles[:1]]
    tokenizer = train_tokenizer([held[0][0].prefer], TokenizerConfig(vocab_size=300))
    messages = question('What is "stone".upper()?')
    rows = []
    for place in (0.0, 1.0, 2.0, 4.0):
        pairs = {"better first": ("STONE", "stone"), "better second": ("stone", "STONE")}
        found = {}
        for name, (first, second) in pairs.items():
            (one,) = label(
                [Candidates(name, messages, first, second)], _Labeller(tokenizer, place).speaker(), held
            )
            assert one is not None
            found[name] = one
        both, other = found["better first"], found["better second"]
        rows.append(
            (
                place,
                both.forward,
                1 - other.forward,
                both.share,
                both.first_place,
                "yes" if both.agrees else "no",
            )
        )
    return Exhibit(
        title="how sure a labeller is of the better answer",
        reads="One order finds the better answer whenever it stands first, and loses it when it stands second. The mean over both orders "
        "prefers it whatever the habit, only less surely; where the orders contradict each other the pair is better left out.",
        columns=(
            "liking for the first place (nats)",
            "shown first",
            "shown second",
            "both",
            "share of the first place",
            "orders agree",
        ),
        rows=rows,
    )


def preferences_without_people() -> Exhibit:
    """A model's answers in pairs, labelled by another, learned by DPO: the share of answers that the labeller likes."""
    start = taught()
    with quiet_folder() as folder:
        cfg = resolve(SampleConfig, {"method": {"kind": "best"}, "problems": [{"generator": GENERATED}]})
        prompts = read_asked(cfg.problems, (), root=folder, limit=60)
        lm = start.lm()
        method = Constitutional(revisions=0, compare="samples", principles=1)
        made = sample_constitution(
            method,
            prompts,
            Speaker(Subject.of(lm)),
            Speech(max_tokens=8),
            judge=_Labeller(start.tokenizer, place=0.5).speaker(),
        )
        write(made, folder)
        before = _capitals(lm)
        settings = resolve(PreferenceConfig, {"loader": {"context": 64, "pairs": 8}})
        renderer = Renderer(tokenizer=start.tokenizer, chat=start.chat)
        sets = [PreferenceSet(paths=(str(folder / PAIRS),))]
        found = gather_comparisons(sets, renderer, settings.loss, settings.loader, root=folder, heldout=0.0)
        prefer(settings, loop(15), lm=lm, comparisons=found, out=folder / "dpo")
        after = _capitals(lm)
    account = made.account
    return Exhibit(
        title="DPO on labels that no person gave",
        reads="The labeller likes capitals and, a little, what stands first. Only pairs that both orders agree on are learned; the answers "
        "become what the labeller likes, be that right or wrong.",
        columns=("what", "value"),
        rows=[
            ("pairs drawn", float(account.drawn)),
            ("kept", float(account.kept)),
            ("both answers the same", float(account.filtered["pair: both answers are the same"])),
            ("liked answers before", before),
            ("liked answers after", after),
        ],
    )  # fmt: skip


def _capitals(lm: LM) -> float:
    """The share of answers in capitals to questions that were not in the pairs."""
    asks = [
        Ask(("measured", row["question"]), question(row["question"]), n=2)
        for row in generators.rows(
            "python_expression", n=40, seed=6, difficulty=1, split="train", kinds=["upper"]
        )
    ]
    said = Speaker(Subject.of(lm)).answers(asks, Speech(max_tokens=8))
    return sum(one.text.isupper() for group in said for one in group) / (2 * len(asks))
