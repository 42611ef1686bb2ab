"""MEASURE: how well a model predicts held-out text, beside what counting and compressing alone can do."""
