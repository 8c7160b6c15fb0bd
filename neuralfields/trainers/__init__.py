"""What does one step learn? Trainers, each on its own supervision: photos, signals, a teacher; and the optimiser."""
