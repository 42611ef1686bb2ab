"""A trained model with its tokenizer and chat format: the object that `orrery.load` returns.

    lm = LM.load("runs/quickstart")
    lm.generate("def main(", max_tokens=64, temperature=0.8, seed=1).text
    lm.generate([{"role": "user", "content": "Hello"}])           # messages, by the model's chat format
    lm.score("some text").bits_per_byte
    lm.logits([1, 2, 3])                                          # (T, V)

T tokens, V vocabulary, d model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from orrery.kit.allocator import keep_small_freed_memory
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, EmbedRequest, GenerateRequest, Grammar, Sampling, Score, ScoreRequest
from orrery.model.adapters.virtual import PLACEHOLDER
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.adapters import DEFAULT, Adapters, put_beside
from orrery.serve.contrastive import contrastive_tokens
from orrery.serve.find import base_of, find_model, is_adapter
from orrery.serve.generate import Generation, beam_completion, prompt_logprobs, sampled_tokens
from orrery.serve.mode import evaluating
from orrery.serve.open import open_folder, open_gguf
from orrery.serve.request import check_request, refuse_engine_only
from orrery.serve.sampling import bad_word_ids, breaker_ids, choice_requests, given
from orrery.serve.windows import check_ids, windowed_logprobs
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer
from orrery.text.truncation import truncate

Message = Mapping[str, Any]
Prompt = str | Sequence[int] | Sequence[Message]


class Settings(TypedDict, total=False):
    """What `generate` and `stream` take by name; see `kit.lm.Sampling` and `GenerateRequest` for the meaning and the defaults.

    stop: texts that end the generation; they are not part of the result. bad_words: texts or sequences of ids. dry_breakers:
    short texts or ids. truncation: what happens to a prompt longer than the model's context: "error", or "left", which keeps
    its end.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    typical_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[int, float]
    bad_words: Sequence[str | Sequence[int]]
    xtc_probability: float
    xtc_threshold: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_breakers: Sequence[str | int]
    contrastive_alpha: float
    seed: int
    stop: str | Sequence[str] | None
    num_beams: int
    length_penalty: float
    n: int
    best_of: int | None
    logprobs: int | None
    prompt_logprobs: int | None
    grammar: Grammar | None
    ignore_eos: bool
    truncation: Literal["error", "left"]


SAMPLING = frozenset(Sampling.__dataclass_fields__)


class LM:
    """Implements `kit.lm.LanguageModel` too: `generate`, `score` and `embed` take lists of requests.

    `chat` is None for a base model. `defaults` are the sampling settings its makers recommend, for callers that have no
    wishes of their own; nothing here applies them.
    """

    def __init__(
        self,
        *,
        model: Decoder,
        tokenizer: Tokenizer,
        chat: ChatFormat | None = None,
        folder: Path | None = None,
        chat_fault: OrreryError | None = None,
        stop_ids: Sequence[int] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        keep_small_freed_memory()  # from now on: loading frees a lot that is not needed again
        self.model, self.tokenizer, self.chat, self.folder = model, tokenizer, chat, folder
        eos = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
        self._stop_ids = eos if stop_ids is None else tuple(stop_ids)
        self._chat_fault = chat_fault
        self.defaults = dict(defaults or {})

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        dequantise: bool = False,
    ) -> LM:
        """Open a model folder, a run folder (its newest finished model), a .gguf file, a model of the local hub cache,
        `gemma-3-270m`, or an adapter of ours: the model it was trained beside, with it. A GGUF file's quantised weights stay so, on
        a CPU, unless `dequantise` (training needs that).

        Raises:
            OrreryError: there is no finished model, or its files are damaged or do not fit together.
        """
        found = find_model(path)
        if is_adapter(found):
            base = base_of(found)
            stacked = is_adapter(base)  # trained beside weights that had the earlier adapter in them
            lm = cls.load(base, device=device, dtype=dtype, dequantise=dequantise or stacked)
            if stacked:
                Adapters.of(lm.model).merge(DEFAULT)
            put_beside(lm, found, DEFAULT)
            Adapters.of(lm.model).use_by_default(DEFAULT)
            return lm
        if found.suffix == ".gguf":
            opened = open_gguf(found, quantised=not dequantise, device=device, dtype=dtype)
        else:
            opened = open_folder(found, device=device, dtype=dtype)
        return cls(
            model=opened.model,
            tokenizer=opened.tokenizer,
            chat=opened.chat,
            folder=opened.path,
            chat_fault=opened.chat_fault,
            stop_ids=opened.stop_ids,
            defaults=opened.defaults,
        )

    @property
    def config(self) -> DecoderConfig:
        """The model's shape."""
        return self.model.cfg

    @property
    def context(self) -> int:
        """How many tokens the model can look at."""
        return self.model.cfg.max_positions

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a text: those the model's makers name, and the chat format's."""
        chat = () if self.chat is None else tuple(self.chat.stop_ids)
        return tuple(dict.fromkeys((*chat, *self._stop_ids)))

    # --- logits, scores, embeddings

    def logits(self, ids: Sequence[int]) -> Tensor:
        """(T,) ids -> (T, V) float32: row i is about what follows ids[: i + 1].

        Raises:
            OrreryError: no ids, an id outside the vocabulary, or more than the context holds.
        """
        with torch.inference_mode(), evaluating(self.model):
            return self.model.head(self._hidden([ids])).float().cpu()

    @overload
    def score(self, text: str | Sequence[int], *, stride: int | None = None) -> Score: ...
    @overload
    def score(self, text: Sequence[ScoreRequest], *, stride: int | None = None) -> list[Score]: ...
    def score(
        self, text: str | Sequence[int] | Sequence[ScoreRequest], *, stride: int | None = None
    ) -> Score | list[Score]:
        """Log-probability of a text, of ids, or of the ends of many sequences of ids.

        A text is scored from its first token on where the tokenizer has BOS, which then stands before it; otherwise, and
        for ids, the first token only gives context. What is longer than the context goes in windows moved by `stride`
        (None: half the context).

        Raises:
            OrreryError: there is no token to predict.
        """
        if isinstance(text, str):
            bos = self.tokenizer.bos_id is not None
            (score,) = self._scores([ScoreRequest(ids=self.tokenizer.encode(text, bos=bos))], stride)
            return (
                replace(score, bytes=len(text.encode())) if bos else score
            )  # what a normaliser changed was text too
        if len(text) and isinstance(text[0], ScoreRequest):
            return self._scores(text, stride)  # type: ignore[arg-type]
        return [] if not len(text) else self._scores([ScoreRequest(ids=text)], stride)[0]  # type: ignore[arg-type]

    def embed(self, requests: Sequence[EmbedRequest]) -> list[NDArray[np.float32]]:
        """One vector (d,) for each: its hidden states after the last norm, their mean or the last one."""
        if not requests:
            return []
        with torch.inference_mode(), evaluating(self.model):
            hidden = self._hidden([request.ids for request in requests]).float()
        vectors = []
        for request, states in zip(requests, hidden.split([len(r.ids) for r in requests]), strict=True):
            vector = states.mean(0) if request.pooling == "mean" else states[-1]
            vectors.append((F.normalize(vector, dim=0) if request.normalize else vector).cpu().numpy())
        return vectors

    # --- generation

    @overload
    def generate(self, prompt: Prompt, **settings: Unpack[Settings]) -> Completion: ...
    @overload
    def generate(self, prompt: Sequence[GenerateRequest]) -> list[Completion]: ...
    def generate(
        self, prompt: Prompt | Sequence[GenerateRequest], **settings: Unpack[Settings]
    ) -> Completion | list[Completion]:
        """Continue a text, ids, or a conversation (a list of messages). The same call gives the same bytes.

        A text gets BOS in front where the tokenizer has it; its special tokens are plain text. `ids` of the result ends
        with the stop id if one ended it; `logprobs` are the model's own, before temperature and filters. A finish
        reason of "length" means max_tokens or the end of the context. With n above 1 the further continuations are in
        `others`.

        Raises:
            OrreryError: an empty prompt, one longer than the context, settings that mean nothing, or a request for what the
                engine alone can do.
        """
        if not isinstance(prompt, str) and len(prompt) and isinstance(prompt[0], GenerateRequest):
            return [self._complete(request) for request in prompt]  # type: ignore[arg-type]
        return self._complete(self.request(prompt, **settings))  # type: ignore[arg-type]

    def stream(self, prompt: Prompt, **settings: Unpack[Settings]) -> Iterator[str]:
        """The text of `generate` piece by piece, each as soon as it is certain.

        Raises:
            OrreryError: as `generate`, before the first piece; num_beams above 1, whose text is known at the end only; or what
                a stream of one text has no place for.
        """
        request = self.request(prompt, **settings)
        if request.num_beams > 1:
            raise OrreryError(
                "beam search knows its text only at the end; use generate, or num_beams=1 to stream"
            )
        if (request.n, request.best_of, request.logprobs, request.prompt_logprobs) != (1, None, None, None):
            raise OrreryError(
                "stream gives one text and nothing beside it; use generate for n, best_of, logprobs and prompt_logprobs"
            )
        return self._pieces(self.generation(request))

    def request(
        self,
        prompt: Prompt,
        *,
        max_tokens: int = 128,
        stop: str | Sequence[str] | None = None,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        n: int = 1,
        best_of: int | None = None,
        logprobs: int | None = None,
        prompt_logprobs: int | None = None,
        grammar: Grammar | None = None,
        ignore_eos: bool = False,
        truncation: Literal["error", "left"] = "error",
        **sampling: Any,
    ) -> GenerateRequest:
        """A prompt and settings as a request over ids."""
        unknown = sampling.keys() - SAMPLING
        if unknown:
            raise TypeError(
                f"generate takes no setting '{min(unknown)}'; it takes {', '.join(Settings.__annotations__)}"
            )
        if "bad_words" in sampling:
            sampling["bad_words"] = bad_word_ids(self.tokenizer, sampling["bad_words"])
        if "dry_breakers" in sampling:
            sampling["dry_breakers"] = breaker_ids(self.tokenizer, sampling["dry_breakers"])
        return GenerateRequest(
            ids=self.prompt_ids(prompt, max_tokens=max_tokens, truncation=truncation),
            max_tokens=max_tokens,
            sampling=Sampling(**sampling),
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            ignore_eos=ignore_eos,
            num_beams=num_beams,
            length_penalty=length_penalty,
            n=n,
            best_of=best_of,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            grammar=grammar,
        )

    def generation(self, request: GenerateRequest) -> Generation:
        """One continuation, to be iterated piece by piece with the model in eval mode; n and num_beams are not looked at.

        Raises:
            OrreryError: as `generate`.
        """
        search = contrastive_tokens if request.sampling.contrastive_alpha else sampled_tokens
        return Generation(self.model, self.tokenizer, request, self._stops(request), search=search)

    def prompt_ids(
        self, prompt: Prompt, *, max_tokens: int = 128, truncation: Literal["error", "left"] = "error"
    ) -> list[int]:
        """The ids the model reads for a prompt; "left" cuts the beginning away, so that the answer fits too."""
        start: list[int] = []
        if isinstance(prompt, str):
            start = [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
            ids = self.tokenizer.encode(prompt)
        elif len(prompt) and isinstance(prompt[0], Mapping):
            ids = self._chat().prompt(prompt)  # type: ignore[arg-type]
        else:
            ids = [int(i) for i in prompt]  # type: ignore[arg-type]
        if truncation == "error" or len(start) + len(ids) + max_tokens - 1 <= self.context:
            return [*start, *ids]
        keep = max(self.context + 1 - max_tokens, self.context // 2, 1 + len(start)) - len(start)
        return [*start, *truncate(len(ids), keep, truncation).of(ids)[0]]

    # --- inside

    def _complete(self, request: GenerateRequest) -> Completion:
        refuse_engine_only(request)
        check_request(self.model, request)
        known = self.tokenizer.vocab_size
        with evaluating(self.model):
            if request.num_beams > 1:
                done = beam_completion(self.model, self.tokenizer, request, self._stops(request))
            else:
                done = given(request, [self._run(choice) for choice in choice_requests(request)])
            if request.prompt_logprobs is None:
                return done
            read = prompt_logprobs(self.model, request.ids, request.prompt_logprobs, known=known)
        return replace(done, prompt_logprobs=read)

    def _run(self, request: GenerateRequest) -> Completion:
        generation = self.generation(request)
        for _ in generation:
            pass
        return generation.completion

    def _pieces(self, generation: Generation) -> Iterator[str]:
        with evaluating(self.model):
            yield from generation

    def _stops(self, request: GenerateRequest) -> tuple[int, ...]:
        return self.stop_ids if request.stop_ids is None else request.stop_ids

    def _scores(self, requests: Sequence[ScoreRequest], stride: int | None) -> list[Score]:
        for request in requests:
            if not 1 <= request.start < len(request.ids):
                raise OrreryError(
                    f"there is nothing to score: of {len(request.ids)} tokens, none stands after the first {request.start}"
                )
        scored = windowed_logprobs(self.model, [request.ids for request in requests], stride=stride)
        return [
            self._score(request, row[request.start :]) for request, row in zip(requests, scored, strict=True)
        ]

    def _score(self, request: ScoreRequest, logprobs: NDArray[np.float32]) -> Score:
        return Score(
            nats=-float(logprobs.sum(dtype=np.float64)),
            tokens=len(logprobs),
            bytes=len(self.tokenizer.decode_bytes(list(request.ids[request.start :]))),
            logprobs=tuple(logprobs.tolist()),
        )

    def _hidden(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """(sum T, d) hidden states of whole sequences."""
        arrays = [np.asarray(ids, dtype=np.int64) for ids in sequences]
        virtual = Adapters.of(self.model).virtual_tokens(None)
        for ids in arrays:
            check_ids(ids, self.model.cfg.vocab_size)
            if not 1 <= len(ids) <= self.context - virtual:
                raise OrreryError(f"{len(ids)} tokens were given; this model looks at 1 to {self.context}")
        device = self.model.device
        whole = [np.pad(ids, (virtual, 0), constant_values=PLACEHOLDER) for ids in arrays]
        tokens, lengths = torch.from_numpy(np.concatenate(whole)).to(device), [len(ids) for ids in whole]
        hidden = self.model(tokens, Packed(lengths, device=device))
        return torch.cat([part[virtual:] for part in hidden.split(lengths)]) if virtual else hidden

    def _chat(self) -> ChatFormat:
        if self.chat is None and self._chat_fault is not None:
            raise self._chat_fault
        if self.chat is None:
            raise OrreryError(
                "this is a base model, with no chat format: it takes a text or ids, not messages"
            )
        return self.chat
