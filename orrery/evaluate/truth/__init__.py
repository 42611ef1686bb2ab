"""Whether what a model says is so: by the world (factuality), by its source (faithfulness), and whether it knows when to be silent.

ask.py alias.py            questions asked with or without a passage; answers against gold in all its spellings
abstain.py selective.py    "I don't know", said or by low confidence; risk against coverage
hallucination.py           how often an answer is given that is wrong or cannot be had
claims.py support.py faithfulness.py   an answer claim by claim against a source
factuality.py              closed-book answers against facts, and both measures side by side
"""
