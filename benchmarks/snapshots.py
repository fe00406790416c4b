"""How long a snapshot of many small files takes, and telling what changed in them.

    python benchmarks/snapshots.py --files 100000

The goal: 100,000 files of about 1 kB are kept, kept again unchanged, and compared after a hundred
changes, in under 60 s altogether on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from morphogen.data.snapshot import Store, diff


def main() -> None:
    """Make the files, time each step, print a line for each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", type=int, default=100_000)
    num = options.parse_args().files
    with tempfile.TemporaryDirectory() as root:
        folder, store = Path(root, "data"), Store(Path(root, "store"))
        for number in range(num):
            place = folder / f"{number // 1000:04d}"
            if number % 1000 == 0:
                place.mkdir(parents=True)
            (place / f"{number}.txt").write_bytes(f"{number}\n".encode() * 150)
        total = 0.0
        for step in ("first snapshot", "unchanged snapshot", "difference"):
            if step == "difference":
                for number in range(min(100, num)):
                    (folder / "0000" / f"{number}.txt").write_text("changed")
            wall, cpu = time.perf_counter(), time.process_time()
            if step == "difference":
                found = diff("last", folder, store=store.folder)
                assert len(found.changed) == min(100, num)
            else:
                store.snapshot(folder)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            total += wall
            print(f"{step:<20}{num:,} files  {wall:7.2f} s, {cpu:7.2f} s of CPU", flush=True)
        print(f"{'together':<20}{num:,} files  {total:7.2f} s on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
