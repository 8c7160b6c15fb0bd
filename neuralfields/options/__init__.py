"""Which options has a verb? Frozen dataclasses that the command line, Python and the docs share; no torch.

common.py        options that several verbs share, as mixins; limits, defaults and choices
fit.py           nf fit
models.py        nf eval, render, view, info, convert, edit, export
captures.py      nf poses, check
machine.py       nf doctor, bench, demo
training.py      the settings of `nf fit --recipe`
command_line.py  an options object from words, and the help page
keywords.py      an options object from keyword arguments
"""
