"""What can be set of a server: `morphogen serve --help` lists it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from morphogen.core.errors import RecipeError

LOCAL = {"127.0.0.1", "localhost", "::1"}
GIB = 1 << 30


@dataclass(frozen=True)
class Settings:
    """Options of `morphogen serve`."""

    models: Path = Path("models")  # folder in which the models lie
    data: tuple[Path, ...] = ()  # data that the studio shows
    indexes: Path = Path("indexes")  # folder in which indexes of documents lie
    agents: Path = Path("agents")  # folder in which files tell of agents: .toml
    memories: Path = Path("memories")  # folder in which memories of agents lie
    runs: Path = Path("runs")  # folder in which traces of agents lie: .jsonl
    host: str = "127.0.0.1"  # address to listen at; another than this machine's own needs keys
    port: int = 8000  # 0 takes a free one
    records: str | None = None  # where what happens is recorded: a file or a database's URL
    memory_gb: float | None = None  # of all models together; none: three quarters of the machine's
    rows: int = 64  # texts that a model writes at once
    batch: int = 8  # items that a model draws at once
    queue: int = 128  # requests of a model that may wait; more are told to come again
    rate: str | None = "600/minute"  # requests of one key; none: any number
    body_mb: float = 32.0  # of a request at most
    threads: int = 0  # of each model; 0: as many as there are cores
    patience: float = 10.0  # seconds that running requests get when the server is told to stop
    watermark: bool = False  # whether what is made is marked, for `whence` to find
    traces: str | None = None  # collector of OpenTelemetry that spans are sent to; none: nowhere

    def check(self) -> Settings:
        """Itself. Raises `RecipeError` for numbers that cannot be."""
        for name, least in {
            "rows": 1,
            "batch": 1,
            "queue": 0,
            "threads": 0,
            "port": 0,
            "patience": 0,
        }.items():
            if getattr(self, name) < least:
                raise RecipeError(
                    f"{name} does not fit", found=getattr(self, name), expected=f"{least} or more"
                )
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in LOCAL

    @property
    def environment(self) -> dict[str, str]:
        """What processes that write to the same records are told."""
        own = {} if self.records is None else {"MORPHOGEN_RECORDS": self.records}
        return {**os.environ, **own}

    @property
    def memory(self) -> int:
        """Bytes that all models may take."""
        if self.memory_gb is not None:
            return int(self.memory_gb * GIB)
        return int(psutil.virtual_memory().total * 3 / 4)

    @property
    def threads_each(self) -> int:
        """Threads of a model."""
        return self.threads or len(os.sched_getaffinity(0)) or 1
