"""Knowledge distillation: a student learns what a teacher would say, not only what was said.

divergence    forward KL, reverse KL, generalised Jensen-Shannon of two distributions, with their gradients
loss          the same between two models, from logits that are never whole
teacher       a frozen model of the same tokenizer; a student that begins from nothing
answers       given answers replaced by the student's own (on-policy) or by the teacher's (sequence level)
distil        the loss of a training run, and how near the student is
"""
