"""The installation's key: where it lies, what it wraps, and which keys are to stay forgotten.

    MORPHOGEN_KEY            the key itself, 32 bytes in base64: nothing is read or written
    MORPHOGEN_KEY_FILE       a file of it; default: ~/.config/morphogen/records.key

The file is JSON that only its owner may read: the key, keys before it (while a rotation is under
way) and the names of the data keys that were forgotten. It lies apart from the database and is in
no backup. Whoever has one without the other reads nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from morphogen.core.errors import RecordsError
from morphogen.core.storage import expanded, lock, write_atomic

SIZE, NONCE = 32, 12  # bytes
ENVIRONMENT, ENVIRONMENT_FILE = "MORPHOGEN_KEY", "MORPHOGEN_KEY_FILE"
FORGOTTEN_KEY = "keep this file apart from the database and its backups: without it, no content"


def default_file() -> Path:
    """Where the key lies unless told: MORPHOGEN_KEY_FILE, or a file of the configuration folder."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expanded(os.environ.get(ENVIRONMENT_FILE) or f"{config}/morphogen/records.key")


@dataclass
class Keyring:
    """The installation's key, newest first where there are several."""

    keys: list[bytes]
    path: Path | None = None  # none: it came from the environment or from the caller
    forgotten: set[str] = field(default_factory=set)  # names of data keys

    @classmethod
    def open(cls, key: bytes | str | Path | None = None) -> Keyring | None:
        """The key as given (32 bytes, or a file of it), else that of the environment, else that of
        its usual file; None where there is none yet. Raises `RecordsError` for what is no key."""
        if isinstance(key, bytes):
            return cls([_checked(key, "the key that was given")])
        if key is None and (text := os.environ.get(ENVIRONMENT)):
            return cls([_decoded(text, f"${ENVIRONMENT}")])
        path = default_file() if key is None else expanded(key)
        return cls._read(path) if path.exists() else None

    @classmethod
    def new(cls, key: Path | str | None = None) -> Keyring:
        """A new key in a new file. Raises `RecordsError` where the file exists."""
        path = default_file() if key is None else expanded(key)
        if path.exists():
            raise RecordsError(
                "there is a key already", where=path, hint="morphogen records rotate"
            )
        ring = cls([os.urandom(SIZE)], path)
        ring.save()
        return ring

    def save(self) -> None:
        """Write the file, readable by its owner alone."""
        if self.path is None:
            return
        text = json.dumps(
            {
                "note": FORGOTTEN_KEY,
                "keys": [base64.b64encode(key).decode() for key in self.keys],
                "forgotten": sorted(self.forgotten),
            },
            indent=2,
        )

        def write(temporary: Path) -> None:
            temporary.chmod(0o600)
            temporary.write_text(text + "\n")

        write_atomic(self.path, write, mode=0o600)

    @classmethod
    def _read(cls, path: Path) -> Keyring:
        try:
            told = json.loads(path.read_text())
            keys = [_decoded(text, path) for text in told["keys"]]
            forgotten = {str(name) for name in told["forgotten"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordsError(
                f"the key file cannot be read: {error or type(error).__name__}",
                where=path,
                hint=f"put back a copy of it, or set {ENVIRONMENT}",
            ) from error
        return cls(keys, path, forgotten)

    def reload(self) -> None:
        """Read the file anew: another process may have rotated the key, or forgotten somebody."""
        if self.path is not None and self.path.exists():
            now = self._read(self.path)
            self.keys, self.forgotten = now.keys, now.forgotten | self.forgotten

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile; it is read anew before."""
        if self.path is None:
            yield
            return
        with self.path.with_name(f"{self.path.name}.lock").open("a") as file:
            lock(file.fileno())
            self.reload()
            yield

    def prefer(self, needed: str) -> bool:
        """Put the key of this fingerprint first, if it is there."""
        self.keys.sort(key=lambda key: fingerprint(key) != needed)
        return self.fingerprint == needed

    # -- what it wraps ---------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """What tells this key from others, and nothing of it."""
        return fingerprint(self.keys[0])

    def wrap(self, data_key: bytes, name: str) -> bytes:
        """A data key, encrypted for the database."""
        nonce = os.urandom(NONCE)
        return nonce + AESGCM(self.keys[0]).encrypt(nonce, data_key, name.encode())

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        """The data key, by whichever key wrapped it. Raises `RecordsError` where none did."""
        for key in self.keys:
            try:
                return AESGCM(key).decrypt(wrapped[:NONCE], wrapped[NONCE:], name.encode())
            except InvalidTag:
                continue
        raise RecordsError(
            "a data key of the records was changed, or wrapped with another key",
            found=f"data key {name}",
            where=self.path or f"${ENVIRONMENT}",
            hint="morphogen records verify; morphogen records restore BACKUP",
        )


def fingerprint(key: bytes) -> str:
    """The same for the same key, and nothing to guess it by."""
    return hmac.digest(key, b"morphogen records key", hashlib.sha256).hex()[:16]


def _decoded(text: str, where: object) -> bytes:
    try:
        return _checked(base64.b64decode(text.strip(), validate=True), where)
    except (binascii.Error, ValueError) as error:
        raise RecordsError("this is no key", expected="32 bytes in base64", where=where) from error


def _checked(key: bytes, where: object) -> bytes:
    if len(key) != SIZE:
        raise RecordsError(
            "this is no key", found=f"{len(key)} bytes", expected=f"{SIZE} bytes", where=where
        )
    return key
