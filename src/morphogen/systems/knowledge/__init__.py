"""Documents that are searched: read, cut where their structure says, embedded, found again.

    formats/       a file each: what a kind of document is made of, with pages and headings
    passage.py     documents and their passages
    cutting.py     blocks of a document into passages
    words.py       BM25, over what may be read and nothing else
    vectors.py     nearest vectors
    embedders.py   texts to vectors, by a bundle or a remote model
    store.py       what an index keeps on disk
    index.py       an index: add, remove, search
    reading.py     files into an index, incrementally

Whoever searches belongs to groups. What they may not read takes no part in anything that they see:
no order, no score, no count, no statistic of words.
"""
