"""SIZE: parameters, FLOPs, memory, KV-cache bytes, time and cost of a model, before anything runs.

Everything is arithmetic on a `DecoderConfig`: no weight is allocated. `plan.plan_model(cfg)` puts it all together.
"""
