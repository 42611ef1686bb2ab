"""Optimisers: one file an idea; `config.py` names them, `build.py` makes one for a model."""
