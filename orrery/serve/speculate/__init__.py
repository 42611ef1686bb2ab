"""Speculation: something cheap guesses the next tokens, and one pass of the model checks all guesses at once."""
