"""Whether a model does what people want of it: helpful, honest and harmless apart; flattery; overseers weaker than what they oversee;
thoughts that can be watched; goals that were meant otherwise; refusals."""
