"""A language model as a judge of answers: two side by side, or one by itself; and how far such a judge can be trusted.

questions   what is asked, in one turn or several, with reference answers; and what models answered
prompts     what the judge reads: our own words, or a file of published ones
verdict     what a judge said, read strictly: what cannot be read is unscored, never a zero
pairwise    which of two answers is better, in both orders
grading     a grade for one answer, or several by a rubric
bias        first place, length and the judge's own answers: how much each is worth to it, with intervals
controls    the same by answers whose quality is known to be equal
agreement   the judge beside people
reward      the better of two given answers: by likelihood, by a reward model, by anything that gives a number
"""
