"""The key that this installation signs with, its certificate, and whose certificates it trusts.

    MORPHOGEN_SIGNING        a file of it; default: ~/.config/morphogen/signing.json

The certificate is made here, under a root that is made for it and whose key is thrown away. So a
signature proves that nothing was changed since, and that this installation signed; it does not
prove who that is. Whoever is to know has to get the certificate's fingerprint by another way. A key
and a certificate that an authority issued can stand in the file in their place.

The file is JSON that only its owner may read; the key of watermarks is in it too.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from morphogen.core.errors import MorphogenError
from morphogen.core.storage import expanded, write_atomic
from morphogen.provenance.certificate import issued, library

ENVIRONMENT = "MORPHOGEN_SIGNING"
SIZE = 32  # bytes of the key of watermarks
NOTE = "keep this file to yourself: whoever has it signs as you do, and finds your watermarks"
HINT = 'morphogen credentials init --name "Ann"'


def default_file() -> Path:
    """Where the key lies unless told: MORPHOGEN_SIGNING, or a file of the configuration folder."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expanded(os.environ.get(ENVIRONMENT) or f"{config}/morphogen/signing.json")


@dataclass
class Identity:
    """Who signs here."""

    name: str
    key: str  # Ed25519, PKCS #8 as PEM
    certificates: str  # the certificate, then those above it, as PEM
    watermark: bytes  # the key of watermarks
    trusted: dict[str, str] = field(default_factory=dict)  # name -> certificate of others, as PEM
    path: Path | None = None

    @classmethod
    def open(cls, path: Path | str | None = None) -> Identity | None:
        """The one of this installation, or None where there is none.

        Raises `MorphogenError` for a file that is none.
        """
        path = default_file() if path is None else expanded(path)
        if not path.exists():
            return None
        try:
            told = json.loads(path.read_text())
            return cls(
                str(told["name"]), str(told["key"]), str(told["certificates"]),
                base64.b64decode(told["watermark"], validate=True),
                {str(name): str(pem) for name, pem in told["trusted"].items()}, path,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MorphogenError(
                f"the key that signs cannot be read: {error or type(error).__name__}",
                where=path,
                hint=f"put back a copy of it; or move it away, and {HINT}",
            ) from error

    @classmethod
    def needed(cls) -> Identity:
        """The one of this installation. Raises `MorphogenError` where there is none."""
        found = cls.open()
        if found is None:
            raise MorphogenError(
                "there is no key to sign and mark with", expected=str(default_file()), hint=HINT
            )
        return found

    @classmethod
    def new(cls, name: str, path: Path | str | None = None) -> Identity:
        """A new key in a new file. Raises `MorphogenError` where the file exists."""
        path = default_file() if path is None else expanded(path)
        if path.exists():
            raise MorphogenError(
                "there is a key already", where=path, hint="morphogen credentials show"
            )
        key, certificates = issued(name)
        own = cls(name, key, certificates, secrets.token_bytes(SIZE), path=path)
        own.save()
        return own

    def save(self) -> None:
        """Write the file, readable by its owner alone."""
        assert self.path is not None
        text = json.dumps(
            {
                "note": NOTE,
                "name": self.name,
                "key": self.key,
                "certificates": self.certificates,
                "watermark": base64.b64encode(self.watermark).decode(),
                "trusted": self.trusted,
            },
            indent=2,
        )

        def write(temporary: Path) -> None:
            temporary.chmod(0o600)
            temporary.write_text(text + "\n")

        write_atomic(self.path, write, mode=0o600)

    def trust(self, name: str, pem: str) -> str:
        """Trust what a certificate signed, as of `name`; returns its fingerprint. Raises
        `MorphogenError` for what is no certificate."""
        found = fingerprint(pem)
        self.trusted[name] = pem
        self.save()
        return found

    # -- what it signs ---------------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """By which others know its certificate."""
        return fingerprint(self.certificates)

    @cached_property
    def signer(self) -> Any:
        """The private key."""
        serialization = library("hazmat.primitives.serialization")
        return serialization.load_pem_private_key(self.key.encode(), None)

    def knows(self, key: bytes) -> str:
        """Whose public key this is: "this installation", a name that is trusted, or nothing."""
        return self._whose(lambda pem: public_key(pem) == key)

    def knows_serial(self, number: str) -> str:
        """The same by the number of a certificate, of which whoever asks knows that it is under one
        of those that are trusted."""
        return self._whose(lambda pem: serial_number(pem) == number)

    def _whose(self, is_it: Callable[[str], bool]) -> str:
        if is_it(self.certificates):
            return f"this installation ({self.name})"
        return next((name for name, pem in self.trusted.items() if is_it(pem)), "")


def fingerprint(pem: str) -> str:
    """SHA-256 of a certificate, in hex."""
    return _certificate(pem).fingerprint(library("hazmat.primitives.hashes").SHA256()).hex()


def public_key(pem: str) -> bytes:
    """The public key of a certificate: of Ed25519 (32 bytes), of others in DER."""
    key = _certificate(pem).public_key()
    if hasattr(key, "public_bytes_raw"):
        return key.public_bytes_raw()
    how = library("hazmat.primitives.serialization")
    return key.public_bytes(how.Encoding.DER, how.PublicFormat.SubjectPublicKeyInfo)


def serial_number(pem: str) -> str:
    """The number of a certificate, as C2PA writes it."""
    return str(_certificate(pem).serial_number)


def name_in(pem: str) -> str:
    """The name in a certificate, which nobody may have checked."""
    subject = _certificate(pem).subject
    found = subject.get_attributes_for_oid(library("x509.oid").NameOID.COMMON_NAME)
    return str(found[0].value) if found else subject.rfc4514_string()


def chain_of(chains: Sequence[str]) -> str:
    """All certificates in some chains, as PEM."""
    return "\n".join(each.strip() for each in chains) + "\n"


@lru_cache(maxsize=64)
def _certificate(pem: str) -> Any:
    """The first in a chain, whose public key can be read."""
    try:
        found = library("x509").load_pem_x509_certificate(pem.encode())
        found.public_key()
        return found
    except (ValueError, library("exceptions").UnsupportedAlgorithm) as error:
        raise MorphogenError(
            f"this is no certificate: {error}", expected="-----BEGIN CERTIFICATE----- .."
        ) from error
