"""What does a command of `nf` do? Its `run`, its text, its exit code."""
