"""Where items lie, read in one room for every modality: folders, archives, tables, arrays, memory.

    records(source, wants, report)   every item that a codec wants, with what is known of it
    survey(source)                   what there is, from names and headers alone
    recognise(source, wants)         how surely a codec that wants this reads the source, and why
    batches(source, wants, report)   whole rows of tables, many at once
    opened(records, open, report)    records to items, several at once, problems noted
    texts(source, wants)             captions, cells and names
    foreign(source)                  containers that are not read, and how to convert each
    NamedFiles(folder)               the files that cells of a table name
    defects(source, wants)           what reading puts up with in silence

One file of this folder is one kind of place; a file added here, or in `sources/` below a path of
`MORPHOGEN_PLUGINS`, is asked like the others.
"""

from morphogen.sources._batches import Batch, batches
from morphogen.sources._files import Listing, is_archive, walk_archive
from morphogen.sources._foreign import foreign
from morphogen.sources._half import Half
from morphogen.sources._layout import split_of, split_of_shard
from morphogen.sources._named import NamedFiles, caption_column, tables_in
from morphogen.sources._open import opened
from morphogen.sources._read import (
    defects,
    kept_surveys,
    recognise,
    records,
    source_of,
    survey,
    texts,
)
from morphogen.sources._record import Labelled, Record, Source, Survey, Wants, same
from morphogen.sources._record_batch import (
    Coded,
    EncodesBatches,
    RecordBatch,
    RecordBatches,
    combined,
    in_batches,
)
from morphogen.sources._regular import again, begins, open_regular, read_regular

__all__ = [
    "Batch",
    "Coded",
    "EncodesBatches",
    "Half",
    "Labelled",
    "Listing",
    "NamedFiles",
    "Record",
    "RecordBatch",
    "RecordBatches",
    "Source",
    "Survey",
    "Wants",
    "again",
    "batches",
    "begins",
    "caption_column",
    "combined",
    "defects",
    "foreign",
    "in_batches",
    "is_archive",
    "kept_surveys",
    "open_regular",
    "opened",
    "read_regular",
    "recognise",
    "records",
    "same",
    "source_of",
    "split_of",
    "split_of_shard",
    "survey",
    "tables_in",
    "texts",
    "walk_archive",
]  # fmt: skip
