"""How much of a long context a model really uses.

needle.py nolima.py        facts in running text, found by matching words or only by knowing
tracing.py aggregation.py  chains to follow, words to count; documents.py: a question among many documents
key_values.py middle.py    the answer moved through the context: lost in the middle
fit.py run.py              prompts of exact length; asked and scored
effective.py report.py     the longest length that works; tables and figures
"""
