"""Containers that are not read: what each is, and how to convert it.

Some can run code when they are opened, some need a library of their own, some say too little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from morphogen.core.errors import DataError
from morphogen.sources._regular import open_regular
from morphogen.sources.delimited import rows_divided_by

NPZ = "numpy.savez('data.npz', x=x, y=y)"
BY_SUFFIX = {
    (".mat",): ("a MATLAB file", f"x = scipy.io.loadmat(FILE)['x']; {NPZ}"),
    (".h5", ".hdf5", ".hdf"): ("an HDF5 file", f"x = h5py.File(FILE)['x'][:]; {NPZ}"),
    (".pt", ".pth", ".ckpt"): (
        "a PyTorch file",
        f"x = torch.load(FILE, weights_only=True).numpy(); {NPZ}",
    ),
    (".pkl", ".pickle", ".joblib"): (
        "a pickle, which could run code",
        f"where you trust it: x = pickle.load(open(FILE, 'rb')); {NPZ}",
    ),
    (".mdb", ".lmdb"): (
        "an LMDB database",
        "write each value into a file of its own with the package lmdb, or pack them into a .tar",
    ),
    (".tfrecord", ".tfrecords"): (
        "TFRecords",
        "read them with tensorflow and save files, a .tar of files, or an .npz",
    ),
    (".rec",): ("an MXNet record", "unpack it into files with mxnet.recordio"),
    (".xlsx", ".xls", ".ods"): ("a spreadsheet", "save the sheet as CSV UTF-8"),
    (".rar", ".7z", ".xz", ".zst"): ("an archive", "unpack it, and name the folder"),
    (".arrow", ".feather"): (
        "an Arrow file",
        "pyarrow.parquet.write_table(pyarrow.feather.read_table(FILE), 'data.parquet')",
    ),
    (".rds", ".rda", ".rdata"): ("an R file", "write.csv(readRDS(FILE), 'data.csv')"),
    (".sav", ".dta", ".sas7bdat"): (
        "a file of a statistics program",
        "pandas.read_spss, read_stata or read_sas, then to_parquet",
    ),
}
BY_START = (
    (b"\x80\x02", "a pickle, which could run code"),
    (b"\x80\x03", "a pickle, which could run code"),
    (b"\x80\x04", "a pickle, which could run code"),
    (b"\x80\x05", "a pickle, which could run code"),
)
MOST = 1000  # files of a folder that are looked at
HEAD = 4096  # bytes of a file that are looked at


def foreign(source: Any) -> list[tuple[str, str]]:
    """What there is in `source` that is not read, with how to convert it."""
    if not isinstance(source, (str, Path)) or "://" in str(source):
        return []
    path = Path(source)
    files = [path] if path.is_file() else sorted(path.rglob("*"))[:MOST]
    found: dict[str, tuple[str, str]] = {}
    for file in files:
        if file.is_file() and (known := _known(file)):
            what, fix = known
            name = file.name if path.is_file() else file.relative_to(path).as_posix()
            found.setdefault(what, (f"{name} is {what}", fix.replace("FILE", repr(name))))
    return list(found.values())


def known_by_suffix(suffix: str) -> tuple[str, str] | None:
    """What a file of this suffix is, and how to convert it; None for others."""
    return next((known for suffixes, known in BY_SUFFIX.items() if suffix in suffixes), None)


def known_by_contents(file: Path) -> tuple[str, str] | None:
    """What a file begins like, and how to have it read; None for what is not known."""
    try:
        with open_regular(file) as stream:
            head = stream.read(HEAD)
    except DataError:
        return None
    if what := next((what for start, what in BY_START if head.startswith(start)), None):
        return what, BY_SUFFIX[".pkl", ".pickle", ".joblib"][1]
    if (by := rows_divided_by(head)) is None:
        return None
    suffix = "tsv" if by == "\t" else "csv"
    return "rows of values", (
        f"name it {file.with_suffix('.' + suffix).name} to have it read as a table; its first line "
        "has to name the columns"
    )


def _known(file: Path) -> tuple[str, str] | None:
    return known_by_suffix(file.suffix.lower()) or known_by_contents(file)
