"""Which agents there are: models with tools of their own, each told of by a file.

    agents/helper.toml    model = "models/base"        "helper", called by its address, as an index:
                          index = "indexes/handbook"   "/agents/helper"
                          with = ["models/plant"]

What stands in the file is what is granted (`worker/agent.py`): whoever asks can name the agent, and
nothing of what it may touch.
"""

from __future__ import annotations

from morphogen.serve.catalogue import Entry
from morphogen.serve.indexes import Indexes

ROOT = "/agents/"


class Agents(Indexes):
    """The agents of a folder, as they are now."""

    root, what = ROOT, "agent"

    def entries(self) -> dict[str, Entry]:
        """By the names of their files, sorted."""
        return {
            file.stem: Entry(f"{ROOT}{file.stem}", file, "agent", file.stat().st_mtime_ns, 0)
            for file in sorted(self.folder.glob("*.toml"))
        }
