"""LEARN: losses, objectives, optimisers, schedules, precision, checkpoints and the loop that joins them.

Import what you need from its file (`orrery.train.loss`, `orrery.train.loop`); nothing heavy is imported here.
"""
