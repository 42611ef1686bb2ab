"""A request becomes a job: checked, its grammar compiled, one sequence for each continuation. Nothing of the cache is touched, so any
thread may do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orrery.kit.lm import GenerateRequest
from orrery.serve.beam import BeamSearch
from orrery.serve.engine.aside import contrastive_updates
from orrery.serve.engine.beams import Beams
from orrery.serve.engine.blocks import root_digest
from orrery.serve.engine.features import check_request
from orrery.serve.engine.reply import Reply
from orrery.serve.engine.sequence import Job, Sequence
from orrery.serve.engine.tables import BlockTables
from orrery.serve.generate import BeamTexts, constraint_of
from orrery.serve.request import new_tokens, read_ids
from orrery.serve.sampling import Chooser, choice_requests
from orrery.serve.steer import steering_vectors

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Engine


def make_job(engine: Engine, request: GenerateRequest) -> Job:
    """The request as the engine keeps it.

    Raises:
        OrreryError: it asks for what is refused, or its grammar cannot be held to.
    """
    check_request(engine, request)
    lm, model = engine.lm, engine.lm.model
    asked = lm.stop_ids if request.stop_ids is None else request.stop_ids
    stops = frozenset() if request.ignore_eos else frozenset(asked)
    read = read_ids(model, request)
    grammar = constraint_of(model, lm.tokenizer, request, stops)
    vectors = steering_vectors(model, request.steering)
    adapter = engine.runner.adapters.fingerprint(request.adapter)
    steering = repr(request.steering) if request.steering else ""
    # All that decides what is cached besides the tokens, and whose it is.
    root = root_digest(str(engine.weights), adapter.hex(), steering, request.tenant)
    shares = engine.support.prefix_cache and request.cache_prefix
    # What is asked about the prompt's tokens is known only where they are read.
    reads = shares and request.prompt_logprobs is None and not any(wish.prompt for wish in request.observe)
    job = Job(engine.next_ticket(), request)
    if request.sampling.contrastive_alpha:
        job.aside = contrastive_updates(lm, request, job.ticket)
        return job
    beams = request.num_beams > 1
    for choice, one in enumerate([request] if beams else choice_requests(request)):
        job.sequences.append(
            Sequence(
                ticket=engine.next_ticket() if choice else job.ticket,
                job=job,
                choice=choice,
                request=one,
                ids=list(read),
                chooser=Chooser(one, model.cfg.vocab_size, lm.tokenizer.vocab_size),
                reply=Reply(lm.tokenizer, one, stops, new_tokens(model, one)),
                constraint=None if grammar is None else grammar.clone(),
                tables=BlockTables(engine.memory.pools, root=root),
                adapter=adapter,
                virtual=len(read) - len(request.ids),
                vectors=vectors,
                reads_prefix=reads,
                leaves_prefix=shares,
            )
        )
    if beams:
        texts = BeamTexts(lm.tokenizer, request, stops)
        search = BeamSearch(
            width=request.num_beams,
            max_tokens=new_tokens(model, request),
            ended=texts.ended,
            length_penalty=request.length_penalty,
        )
        job.beams = Beams(search, texts, job.sequences[0])
    job.unforked = job.sequences[1:]
    return job
