"""Answers from several processes or machines, by Ray (extra `cluster`); the trainer stays one process.

    rl: {workers: 2}                                       the same answers as without; bit for bit, where the engine is deterministic
    rl: {workers: 2, off_policy_steps: 1, correction: {}}  answers of the round before, drawn while the trainer updates

    trainer   weights of a version -> object store; problems in shares -> workers; their episodes, merged -> update
    worker    a copy of the model with its own engine and its own environments, so verifiers and sandboxes run there too

config     where the workers are and how long they may take      shares   who is asked what
worker     what each of them does                                group    starting, asking, starting again

Weights go out once a round, and only those that learn: of an adapter its own, never its model's. A share whose worker has died is asked
again of a new one; nothing that a worker knows is needed after its answers have come, so nothing is lost with it. A trainer that dies takes
its workers with it, and goes on from its checkpoint as it does without.

The trainer itself is one process. What it would take to be several under torch.distributed: the model is a plain module and `train.step`
adds sums and weights over ranks already, so ranks could take whole minibatches by `packing.minibatches`; but the weight that a minibatch
is divided by (`learning._weights`), the baselines of `credit` and the pass over all tokens before the update are over all answers of a
round, and would have to be gathered first; sharded weights (FSDP2) would have to be gathered whole before they are sent to workers.
"""
