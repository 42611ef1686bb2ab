"""Whether an answer refuses, by rules or by a judge; how often a model refuses what is harmless, and what is not."""
