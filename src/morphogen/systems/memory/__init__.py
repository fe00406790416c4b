"""What is remembered: notes with their sources and times, what they say of whom, and how they go.

    note.py      a note: its words, where they are from, since when they hold, what they relate
    store.py     notes on disk, each sealed with a key of its own
    memory.py    remember, recall, correct, let expire, forget
    graph.py     entities and their relations, as of any date
    drawing.py   the graph as a picture
    proof.py     where a note's words were looked for once it was forgotten
    session.py   a conversation: what was said, and what of it still fits

A note is forgotten with its key. What was copied before, a backup among it, cannot be read then.
"""
