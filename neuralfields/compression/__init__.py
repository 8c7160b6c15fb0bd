"""Makes Gaussians small: quantised by a quality, entropy-coded with contexts, stored as .nfz (docs/nfz.md)."""
