"""The engine: blocks of cache, tables, the scheduler, and the loop that runs the model."""
