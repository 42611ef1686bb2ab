"""Self-Instruct: a model that continues a list of tasks writes new ones, then inputs and outputs for them (Wang et al. 2022,
arXiv:2212.10560). What is too like what there is, too short, too long, or beyond a model of text is left out and counted."""
