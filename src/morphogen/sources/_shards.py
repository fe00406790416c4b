"""One table in several files: the parts that large data sets come in, `train-00000-of-00012`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from morphogen.core.errors import DataError
from morphogen.core.visible import in_shell
from morphogen.sources._files import only
from morphogen.sources._layout import split_of, split_of_shard
from morphogen.sources._record import Survey
from morphogen.sources._table import Table, TableSource

NOTES = (".md", ".yaml", ".yml", ".lock")  # of a folder in which .txt and .json may be more


class TableFiles(TableSource):
    """A file that is a table, or a folder of nothing else but such files and notes on them.

    What the files are called, or the folders that they lie in, says which split their rows are of.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    beside: ClassVar[tuple[str, ...]] = NOTES

    @classmethod
    def opens(cls, source: Any) -> float:
        if not isinstance(source, (str, Path)):
            return 0.0
        path = Path(source)
        if path.is_file():
            return 0.9 if path.name.lower().endswith(cls.suffixes) else 0.0
        return 0.8 if path.is_dir() and cls.shards_in(path) else 0.0

    @classmethod
    def shards_in(cls, folder: Path) -> list[Path]:
        """The parts of a folder that holds nothing else."""
        return only(folder, cls.suffixes, cls.beside)

    @classmethod
    @abstractmethod
    def table_in(cls, path: Path, name: str) -> Table:
        """A file as a table that is called `name`. Raises `DataError` when it is damaged."""

    def tables(self) -> Iterator[Table]:
        """The table of each file that holds any rows. Raises `DataError` when they are not parts of
        one."""
        path = Path(self.source)
        if path.is_file():
            yield self.table_in(path, path.name)
            return
        found = []
        for shard in self.shards_in(path):
            name = shard.relative_to(path)
            table = self.table_in(shard, name.as_posix())
            folders = (split_of(each) for each in name.parts[:-1])
            table.split = next(filter(None, folders), None) or split_of_shard(shard.stem)
            found.append(table)
        found = [table for table in found if table.columns] or found[:1]
        check_alike(found, path)
        yield from found

    def survey(self) -> Survey:
        path = Path(self.source)
        name = f"a {path.suffix.lower()} table"
        try:
            tables = list(self.tables())
            if path.is_dir():
                kind = Path(tables[0].name).suffix.lower()
                name = f"{len(tables):,} {kind} table{'s' * (len(tables) != 1)}"
            found = tables[0].survey(name=name)
        except DataError as error:
            return Survey("table", damaged=error, name=name)
        counts = [table.num for table in tables]
        found.num = None if None in counts else sum(filter(None, counts))
        return found


def check_alike(tables: Sequence[Table], folder: Path) -> None:
    """Raise `DataError` where tables have more columns of their own than they share."""
    first = tables[0]
    for table in tables[1:]:
        shared = set(first.columns) & set(table.columns)
        if 2 * len(shared) < len(set(first.columns) | set(table.columns)):
            raise DataError(
                "the tables of the folder are not parts of one: they have other columns",
                found=f"{first.name}: {', '.join(first.columns[:8])}; "
                f"{table.name}: {', '.join(table.columns[:8])}",
                expected="files with the same columns",
                where=str(folder),
                hint=f"morphogen inspect {in_shell(folder / first.name)}",
            )
