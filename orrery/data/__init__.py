"""Text in, batches out: sources -> clean -> deduplicate -> split -> tokenise -> shards -> packed batches.

`prepare` writes a folder of token shards; `Loader` turns it into batches whose content is a pure function of
(seed, step). The two meet in `Shards`, so that anything that can write shards can be trained on.
"""
