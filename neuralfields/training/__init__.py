"""How is a model fitted? Plan, training loop, checkpoints, and what a fit says at its end."""
