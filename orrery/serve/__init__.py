"""INFER: use a trained model - score text, draw from it, search, talk."""
