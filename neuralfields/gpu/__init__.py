"""How does an op run on a CUDA GPU, by whose kernels? `ops` reaches it by name alone."""
