"""Draft, criticise, revise: a conversation that a model has with itself about one of its answers.

    prompt -> draft -> [a request to criticise it -> criticism -> a request to mend it -> revision] ... -> final answer

Each round begins again from the prompt and the newest answer, so the conversation does not grow, and a round ends the work where the
criticism finds nothing to mend. All prompts go through each step together.
(Bai et al. 2022, arXiv:2212.08073, section 3; Madaan et al. 2023, arXiv:2303.17651; Saunders et al. 2022, arXiv:2206.05802.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.speaker import Ask, Said, Speaker, Speech, question

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Requests:
    """What is said to the model in a round: to criticise, and to mend."""

    critique: str
    revise: str


@dataclass
class Chain:
    """The answers to one prompt, first to last, and what was said of each but the last one.

    satisfied: the last criticism found nothing to mend. spoilt: a revision said nothing or was cut off, and does not count.
    """

    answers: list[Said]
    critiques: list[Said] = field(default_factory=list)
    satisfied: bool = False
    spoilt: bool = False

    @property
    def draft(self) -> Said:
        return self.answers[0]

    @property
    def final(self) -> Said:
        return self.answers[-1]

    @property
    def changed(self) -> bool:
        return self.final.text != self.draft.text


def revise(
    asked: Sequence[Asked], speaker: Speaker, speech: Speech, *, rounds: int, requests: Callable[[Asked, int], Requests],
    satisfied: str = "", shown: Sequence[Message] = (),
) -> list[Chain]:  # fmt: skip
    """A chain of every prompt.

    Args:
        requests: what is said about a prompt's answer in each round.
        satisfied: a regular expression; a criticism that matches ends the chain. Empty: all rounds are gone through.
        shown: turns of a worked example in front of every criticism.
    """
    drafts = speaker.answers([Ask(("draft", one.id), one.messages, dialogue=True) for one in asked], speech)
    chains = [Chain(answers) for answers in drafts]
    done = re.compile(satisfied, re.IGNORECASE) if satisfied else None
    for round_ in range(rounds):
        open_ = [
            i for i, chain in enumerate(chains) if not (chain.satisfied or chain.spoilt) and chain.final.text
        ]
        said = {i: requests(asked[i], round_) for i in open_}
        about = {i: [*shown, *_about(asked[i], chains[i], said[i])] for i in open_}
        asks = [Ask(("critique", asked[i].id, round_), about[i], dialogue=True) for i in open_]
        for i, (critique,) in zip(open_, speaker.answers(asks, speech), strict=True):
            chains[i].critiques.append(critique)
            chains[i].satisfied = done is not None and done.search(critique.text) is not None
        open_ = [i for i in open_ if not chains[i].satisfied]
        asks = [
            Ask(
                ("revise", asked[i].id, round_),
                [*about[i], {"role": "assistant", "content": chains[i].critiques[-1].text}, *question(said[i].revise)],
                dialogue=True,
            )
            for i in open_
        ]  # fmt: skip
        for i, (revision,) in zip(open_, speaker.answers(asks, speech), strict=True):
            if revision.fault is None:
                chains[i].answers.append(revision)
            else:
                chains[i].spoilt = True
    return chains


def _about(one: Asked, chain: Chain, said: Requests) -> list[Message]:
    """The prompt, the newest answer, and the request to criticise it. A system message stays only where it begins everything."""
    asked = [message for message in one.messages if message["role"] != "system"]
    return [*asked, {"role": "assistant", "content": chain.final.text}, *question(said.critique)]
