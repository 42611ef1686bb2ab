"""lm-evaluation-harness's own tasks on a model of ours: its `LM` over our engine and our shared prefixes.

    import lm_eval, orrery
    from orrery.evaluate.lm_eval_adapter import lm_eval_model

    lm_eval.simple_evaluate(model=lm_eval_model(orrery.load("runs/quickstart")), tasks=["blimp"])

Source: Gao et al., github.com/EleutherAI/lm-evaluation-harness (lm_eval.api.model.LM, version 0.4.13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orrery.evaluate.boundary import Bos, alone, beginning, fit, make_room, split
from orrery.evaluate.subject import Subject, text_of
from orrery.kit.errors import MissingExtra
from orrery.kit.lm import GenerateRequest, Sampling
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM

TOGETHER = 512
MAX_TOKENS = 256
"""Tokens that a task gets which does not say how many it wants."""
SAMPLING = ("top_p", "top_k", "min_p", "repetition_penalty")


def lm_eval_model(model: LM | Engine, *, bos: Bos = "auto", batch_tokens: int = 2048) -> Any:
    """An `lm_eval.api.model.LM` whose answers are this model's.

    Raises:
        OrreryError: lm-eval is not installed.
    """
    try:
        from lm_eval.api.model import LM as Base
    except ImportError:
        raise MissingExtra("lm-eval", "eval") from None

    class OrreryLM(Base):
        """Requests are lm-eval's instances: `args` is (context, continuation), (text,) or (context, settings)."""

        def __init__(self) -> None:
            super().__init__()
            self.subject = Subject.of(model)
            self._asks = Requests(self.subject, bos=bos, batch_tokens=batch_tokens)

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            """(log p, whether greedy decoding would say it) of each continuation."""
            return self._asks.loglikelihood([request.args for request in requests])

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            """log p of each whole text."""
            return self._asks.rolling([request.args[0] for request in requests])

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            """What follows each context."""
            return self._asks.generate([request.args for request in requests])

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            """The text of a conversation, for tasks that are asked with --apply_chat_template."""
            self._asks.special = True
            return self.subject.chat_format().text(chat_history, add_generation_prompt=add_generation_prompt)

        @property
        def tokenizer_name(self) -> str:
            """Names the ids in lm-eval's caches."""
            return self.subject.tokenizer.fingerprint[:16]

        def chat_template(self, chat_template: bool | str = False) -> str:
            """The template that `apply_chat_template` uses, told in lm-eval's results."""
            return self.subject.chat_format().template if chat_template else ""

    return OrreryLM()


class Requests:
    """lm-eval's three kinds of request, over texts. special: texts hold a chat template's control tokens as text."""

    def __init__(self, subject: Subject, *, bos: Bos, batch_tokens: int) -> None:
        self.subject, self.batch_tokens = subject, batch_tokens
        self.start = beginning(subject.tokenizer, bos)
        self.special = False

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        """Pairs with one context are cut at one place; all are read in the order that shares most."""
        scorer = self.subject.scorer(self.batch_tokens)
        by_context: dict[str, list[int]] = {}
        for i, (context, _) in enumerate(pairs):
            by_context.setdefault(context, []).append(i)
        places: list[int] = []
        requests: list[tuple[list[int], list[int]]] = []
        found: dict[int, tuple[float, bool]] = {}
        for number, context in enumerate(sorted(by_context), start=1):
            mine = by_context[context]
            before, after = self._split(context, [pairs[i][1] for i in mine])
            for i, continuation in zip(mine, after, strict=True):
                kept, _ = fit(before, continuation, limit=self.subject.context, start=self.start)
                places.append(i)
                requests.append((kept, continuation))
            if len(requests) >= TOGETHER or number == len(by_context):
                scored = self.subject.likelihoods(scorer, requests)
                found |= {i: (one.logprob, one.greedy) for i, one in zip(places, scored, strict=True)}
                places, requests = [], []
        return [found[i] for i in range(len(pairs))]

    def rolling(self, texts: Sequence[str]) -> list[float]:
        """In windows that do not overlap in what they predict, behind BOS or EOS."""
        tokenizer = self.subject.tokenizer
        return self.subject.rolling(
            [tokenizer.encode(text) for text in texts],
            self.start or alone(tokenizer),
            batch_tokens=self.batch_tokens,
        )

    def generate(self, asked: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Each context's continuation up to the first of its `until` texts, which is left out."""
        requests = [self._request(context, dict(settings)) for context, settings in asked]
        found = dict(self.subject.generate(requests))
        return [text_of(self.subject.tokenizer, found[i]) for i in range(len(asked))]

    def _request(self, context: str, settings: dict[str, Any]) -> GenerateRequest:
        until = settings.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        wanted = int(settings.get("max_gen_toks", settings.get("max_new_tokens", MAX_TOKENS)))
        draws = settings.get("do_sample", False)
        temperature = float(settings.get("temperature") or 0.0) if draws else 0.0
        ids = self._encode(context) or alone(self.subject.tokenizer)
        ids, max_tokens, _ = make_room(ids, wanted, limit=self.subject.context, start=self.start)
        more = {name: settings[name] for name in SAMPLING if draws and settings.get(name) is not None}
        return GenerateRequest(
            ids=ids, max_tokens=max_tokens, stop=tuple(text for text in stop if text),
            sampling=Sampling(temperature=temperature, seed=int(settings.get("seed", 0)), **more),
        )  # fmt: skip

    def _split(self, context: str, continuations: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        if not self.special:
            return split(self.subject.tokenizer, context, continuations, start=self.start)
        tokenizer = self.subject.tokenizer
        return self._encode(context), [tokenizer.encode(text) for text in continuations]

    def _encode(self, context: str) -> list[int]:
        ids = self.subject.tokenizer.encode(context, special="allow" if self.special else "never")
        return ids if ids[:1] == self.start else [*self.start, *ids]
