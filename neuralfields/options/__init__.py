"""Which options has a verb? Frozen dataclasses that the command line, Python and the docs share; no torch."""
