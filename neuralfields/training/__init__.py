"""How is a model fitted? Training loop, optimiser, schedules, checkpoints."""
