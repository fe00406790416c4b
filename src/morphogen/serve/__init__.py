"""Trained models at work: one server, and the API that it speaks.

app.py         the application: what is there before a request comes, and after the last
settings.py    what can be set, which is what `morphogen serve --help` lists
catalogue.py   which models there are
routes/        one file per part of the API
engine/        a process for each model: started when needed, ended when memory is short
worker/        what runs in such a process: requests in one batch, as if each were alone
studio/        the pages for people
"""
