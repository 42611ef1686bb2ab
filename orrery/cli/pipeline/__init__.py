"""Where stages are joined: a recipe of stages, the runner that repeats only what changed, and the report."""
