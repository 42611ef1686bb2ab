"""Reinforcement learning for language models: formulas as pure functions of tensors, and the trainer that feeds them.

returns, gae, advantage       from rewards to how much better than expected each token was
policy_loss, value_loss       from advantages to losses, (sum, weight) as everywhere
kl, entropy, importance       staying near a reference, staying random, samples from another policy
trpo                          the step that keeps its distance
overlong, dynamic_sampling    what is rewarded and what is sampled again
rollout, answering, workers   answers through the engine: the live one, or those of other processes and machines
recorded                      answers that are written down, and what others wrote down
routing                       experts that routers took, taken again
explain                       what the numbers of a step mean
classic                       worlds small enough to solve exactly
"""
