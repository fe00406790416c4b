"""Models that act: they call tools, within what they were granted, and leave a trace.

    tool.py        a function with a schema, and what it may touch
    privileges.py  what is granted, and what a call may do once somebody else's words were read
    trace.py       typed steps of a run, and the file that they are written to
    loop.py        decide, check, judge, run, again: all there is
    worlds.py      where decisions and results come from: what happens now, or what was recorded
    running.py     a tool that is run, bounded in time and in what it gives
    deciders.py    who decides what is next: a bundle, a remote model, a transcript
    verdict.py     what was done, as the trace has it
    page.py        a trace as a page, with the run as a picture (drawing.py)
    tools/         documents, models, memories, programs
    mcp_client.py  tools of servers of the Model Context Protocol
    mcp_server.py  our tools for others, by the same protocol

What a run may do is decided by code from what its tools declare, never by a model from what it
read: see `privileges`.
"""
