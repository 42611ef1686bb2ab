"""Data that a model makes itself: answers that were checked or ranked, reasons that led to right answers, new instructions, criticism
by a written constitution, preferences. What is made is rows that supervised fine-tuning, preference and reward stages read.

    method                made                                                                        learned by
    best                  n answers a prompt, the verified or the best kept (rejection sampling, RAFT)  tune, prefer
    star                  reasons with right answers; wrong ones reasoned again with the answer told      tune
    self-consistency      the majority's answer as the label                                              tune
    self-instruct         new instructions with inputs and outputs, from seed tasks                       tune
    critique              draft, criticise, revise until there is nothing left to mend                    tune
    constitution          the same by written principles, and preferences of the model itself (RLAIF)     tune, prefer, reward
"""
