"""What a model wrote runs where it can do no harm: loops, forks, writes, sockets are bounded."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import time
from pathlib import Path
from types import ModuleType

import pytest

from morphogen.core.errors import MorphogenError
from morphogen.evaluation import sandbox
from morphogen.evaluation.sandbox import guards_missing, run_program

needs_guards = pytest.mark.skipif(
    bool(guards_missing()), reason=f"no {', '.join(guards_missing())} on this machine"
)


@needs_guards
def test_a_program_passes_or_fails() -> None:
    assert run_program("print(sum(range(10)))").status == "passed"
    failed = run_program("import math, json\nassert math.pi < 3, 'no'")
    assert failed.status == "failed"
    assert "AssertionError: no" in failed.output
    assert run_program("import sys; sys.exit(3)").status == "failed"


@needs_guards
@pytest.mark.parametrize("loop", ["while True: pass", "import time\ntime.sleep(60)"])
def test_loops_end(loop: str) -> None:
    start = time.monotonic()
    assert run_program(loop, seconds=1).status == "out of time"
    assert time.monotonic() - start < 30


@needs_guards
def test_memory_and_output_are_bounded() -> None:
    assert "MemoryError" in run_program("x = bytearray(1 << 30)").output
    talk = run_program("for _ in range(10**6): print('x' * 100)", seconds=2)
    assert talk.status != "passed"
    assert len(talk.output) <= sandbox.MOST_OUTPUT


FORK = """
import os, time
made = 0
for _ in range(100):
    try:
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
    except OSError:
        break
    made += 1
print(made, flush=True)
"""


@needs_guards
def test_forks_are_few_and_end_with_the_program() -> None:
    found = run_program(FORK, processes=8)
    assert found.status == "passed"
    assert 0 < int(found.output) <= 8
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"program.py" in read(path)]
    assert left == []


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


WRITES = """
import os, sys
open("here.txt", "w").write("mine")
for path in sys.argv[1:] or PATHS:
    try:
        open(path, "w").write("harm")
        print("wrote", path)
    except OSError as error:
        print(type(error).__name__)
for path in ("/etc/passwd", SECRET):
    try:
        print("read", open(path).read()[:10])
    except OSError:
        pass
try:
    for number in range(100):
        open(f"{number}.bin", "wb").write(bytes(1 << 20))
except OSError:
    print("full at", number)
"""


@needs_guards
def test_writes_stay_in_its_folder_and_are_bounded(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    places = [str(tmp_path / "out.txt"), "/tmp/harm.txt", "/dev/shm/harm.txt", str(secret)]
    program = WRITES.replace("PATHS", repr(places)).replace("SECRET", repr(str(secret)))
    found = run_program(program)
    assert "wrote" not in found.output
    assert "read" not in found.output
    assert secret.read_text() == "hidden"
    full = int(found.output.split("full at ")[1])
    assert 10 < full <= 16
    assert not os.path.exists("/tmp/harm.txt")


@needs_guards
def test_there_is_no_network() -> None:
    program = "import socket\nsocket.create_connection(('127.0.0.1', PORT), 2)"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        found = run_program(program.replace("PORT", str(server.getsockname()[1])))
    assert found.status == "failed"


def test_what_cannot_be_had_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without namespaces nothing runs, unless these guards are waived by name."""
    monkeypatch.setattr(sandbox, "_namespaces", lambda: ())
    guards_missing.cache_clear()
    try:
        missing = guards_missing()
        assert {"network", "processes"} <= set(missing)
        with pytest.raises(MorphogenError, match="cannot fence in"):
            run_program("pass")
        assert run_program("pass", without=missing).missing == missing
    finally:
        guards_missing.cache_clear()


@pytest.fixture
def passk(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("passk")


def test_pass_at_k_is_the_share_of_choices_that_pass(passk: ModuleType) -> None:
    passed = [True, True, False, False, False]
    for k in range(1, 6):
        choices = list(itertools.combinations(passed, k))
        assert passk.pass_at_k(5, 2, k) == pytest.approx(sum(map(any, choices)) / len(choices))


@needs_guards
def test_completions_pass_by_their_tests_alone(passk: ModuleType) -> None:
    problems = json.loads(passk.PROBLEMS.read_text())
    assert len({each["name"] for each in problems}) == 20
    first = problems[0]
    assert passk.passes(first, first["solution"] + "\nprint(middle(1, 2")  # what follows is cut off
    for wrong in ("    return a\n", "    return (\n", "    import os\n    os._exit(0)\n"):
        assert not passk.passes(first, wrong)
