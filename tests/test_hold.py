"""One run to a folder: the second is refused, a stale lock is taken over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from morphogen.core.errors import TrainingError
from morphogen.training import hold as holding
from morphogen.training.hold import FILE, Owner, hold

HOLDER = (
    "import sys, time; from pathlib import Path; from morphogen.training.hold import hold\n"
    "with hold(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
)


def test_another_process_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(TrainingError, match="another run is going on") as raised,
            hold(tmp_path / "run"),
        ):
            pass
        assert str(other.pid) in str(raised.value.found)
        with hold(tmp_path / "elsewhere"):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert json.loads((tmp_path / "run" / FILE).read_text())["pid"] == other.pid
    with hold(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / FILE).read_text())["pid"] == os.getpid()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_thread_may_hold_again_and_another_may_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def other() -> None:
        try:
            with hold(tmp_path):
                pass
        except TrainingError as error:
            refused.append(error.message)

    with hold(tmp_path), hold(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1
    other()
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("change", "is_taken"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),  # gone
        ({"started": 1.0}, False),  # the number was given to another process since
        ({"host": "elsewhere"}, True),  # nobody knows
        (None, False),  # cut short
    ],
)
def test_where_the_disk_has_no_locks_the_record_decides(
    change: dict[str, object] | None,
    is_taken: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holding, "try_lock", lambda handle: None)
    about = json.dumps({**vars(Owner.here()), **(change or {})})
    (tmp_path / FILE).write_text(about if change is not None else about[:9])
    if is_taken:
        with pytest.raises(TrainingError, match="another run"), hold(tmp_path):
            pass
        return
    with hold(tmp_path):
        pass


def test_a_lock_file_removed_while_it_was_opened_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = holding.try_lock, []

    def removed_first(handle: int) -> bool | None:
        if not calls:
            (tmp_path / FILE).unlink()  # as the holder does when it lets go
        calls.append(handle)
        return real(handle)

    monkeypatch.setattr(holding, "try_lock", removed_first)
    with hold(tmp_path):
        assert (tmp_path / FILE).exists()
    assert len(calls) == 2
