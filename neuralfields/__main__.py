"""`python -m neuralfields` is `nf`."""

from neuralfields.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
