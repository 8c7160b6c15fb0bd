"""How good is a model, by which protocol? Evaluation, and validation during a fit."""
