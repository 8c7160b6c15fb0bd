"""Which posed photos are on disk, and where is the scene? No torch."""
