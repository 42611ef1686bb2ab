"""Structured output: what a text must match, which tokens it allows next, and how calls and reasoning are read back.

schema.py            JSON schemas and response_format from outside, checked before anything is built of them
source.py            every kind of grammar as one EBNF source
tokenizer_bridge.py  a Tokenizer as the grammar library sees it: the bytes of every token
constraint.py        Constraint: the tokens a grammar allows next, as part of a sequence's state
syntax.py            how a chat format writes tool calls and reasoning, asked of its own template
call_rules.py        the EBNF rules of an answer with reasoning and calls
tool_calls.py        the grammar of an answer that may or must call tools, and its calls read back
reply.py             an answer as it streams: content, reasoning and tool calls apart
"""
