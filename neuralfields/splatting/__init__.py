"""How do Gaussians begin, grow and shrink?"""
