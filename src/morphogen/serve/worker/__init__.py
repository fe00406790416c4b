"""The process of one model: `python -m morphogen.serve.worker`, which the engine starts.

It reads requests from its standard input, a line of JSON each, and writes what comes of them to its
standard output, one list of events a line. Where the server ends, so does it.

    {"id": 1, "do": "chat", "messages": [..], "most": 64, "seed": 0}
    {"id": 1, "do": "cancel"}

    [{"id": 1, "row": 0, "text": "The"}, {"id": 2, "row": 0, "text": " boats"}]
    [{"id": 1, "row": 0, "finish": "stop", "num_tokens": 7}, {"id": 1, "done": {..}}]
"""
