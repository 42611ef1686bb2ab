"""Reinforcement learning before language models: worlds small enough to solve exactly, and the methods that learn in them.

mdp, gridworld, bandit, cartpole      worlds
bellman                               exact values of a known world
q_learning, dqn, offline              values from experience
policy, policy_gradient, actor_critic policies from experience, with the losses of `tune.rl`
"""
