"""What there is to call: a file for each kind, each with a function that gives `Tool`s.

documents.py   an index: search, and answers with quotes
models.py      the tasks of a bundle: our own generators and predictors, and the user's
memories.py    a memory: recall, remember, correct, forget
programs.py    Python in a sandbox
functions.py   the user's own functions, by dotted path
named.py       all of these, by what somebody names
"""
