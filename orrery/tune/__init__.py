"""ALIGN: from a base model to one that follows instructions.

    rows -> shapes -> Dialogue -> examples (ids with exact weights) -> ExampleLoader -> train.loop

Import what you need from its file (`orrery.tune.dataset`, `orrery.tune.loader`); nothing heavy is imported here.
"""
