"""Signed side-cars, for files that have no place for a C2PA manifest: texts, tables, arrays.

    poem.txt    poem.txt.credential:  {"sha256": of poem.txt, "says": {..}, .., "signature": ..}

The signature is Ed25519 over everything else in it, as JSON with its keys in order. The certificate
is that of C2PA manifests, so that one fingerprint tells whoever signed both.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core.errors import MorphogenError
from morphogen.core.provenance import SYNTHETIC
from morphogen.core.storage import sha256, write_atomic
from morphogen.provenance.certificate import library
from morphogen.provenance.credential import Credential
from morphogen.provenance.identity import Identity, fingerprint, name_in, public_key

SUFFIX = ".credential"
FORMAT = "morphogen credential 1"
DOMAIN = b"morphogen credential\0"  # what is signed here is signed for nothing else
LARGEST = 1 << 20  # bytes that are believed to be a credential


def side_car(path: Path) -> Path:
    """Where the side-car of a file lies."""
    return path.parent / (path.name + SUFFIX)


def sign(
    path: Path,
    says: Mapping[str, str],
    identity: Identity,
    ingredients: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the side-car of a file; what it was made from goes in, see `ingredient`."""
    told: dict[str, Any] = {
        "format": FORMAT,
        "file": path.name,
        "sha256": sha256(path),
        "digitalSourceType": SYNTHETIC,
        "says": dict(says),
        "ingredients": [dict(each) for each in ingredients],
        "signed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "certificate": identity.certificates,
    }
    told["signature"] = base64.b64encode(identity.signer.sign(_signed(told))).decode()
    return write_atomic(side_car(path), lambda file: file.write_bytes(_written(told)))


def read(path: Path, identity: Identity | None = None) -> Credential | None:
    """What the side-car of a file says, and whether it holds; None where there is none."""
    beside = side_car(path)
    if not beside.is_file():
        return None
    data = beside.read_bytes()
    if (told := parsed(data)) is None:
        return Credential("side-car", ("it cannot be read",), "", "", {})
    problems = []
    key, signer, mark = b"", "", ""
    try:
        key, signer = public_key(told["certificate"]), name_in(told["certificate"])
        mark = fingerprint(told["certificate"])
        if data != _written(told) or not _is_signed(told, key):
            problems.append("the statement was changed after it was signed")
    except (KeyError, TypeError, AttributeError, ValueError, MorphogenError):
        problems.append("it is signed with nothing that can be checked")
    if path.is_file() and sha256(path) != told.get("sha256"):
        problems.append(f"{path.name} is not the file that was signed: it was changed")
    known = identity.knows(key) if identity is not None and key else ""
    return Credential(
        "side-car", tuple(problems), signer, known, _words(told.get("says")), mark,
        tuple(map(_line, _listed(told.get("ingredients")))), str(told.get("signed", "")),
    )  # fmt: skip


def tags_of(data: bytes) -> dict[str, str]:
    """What a side-car says for whoever reads the file as data; see `said.said_by`."""
    told = parsed(data) or {}
    if told.get("digitalSourceType") != SYNTHETIC:
        return {}
    says = _words(told.get("says"))
    return {"synthetic": "yes", "generator": says.get("generator", "a model, by its credential")}


def parsed(data: bytes) -> dict[str, Any] | None:
    """A side-car; None where it is none."""
    try:
        told = json.loads(data) if len(data) <= LARGEST else None
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and told.get("format") == FORMAT else None


def _written(told: Mapping[str, Any]) -> bytes:
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")


def _signed(told: Mapping[str, Any]) -> bytes:
    rest = {name: value for name, value in told.items() if name != "signature"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return DOMAIN + text.encode("utf-8", "surrogatepass")


def _is_signed(told: Mapping[str, Any], key: bytes) -> bool:
    ed25519 = library("hazmat.primitives.asymmetric.ed25519").Ed25519PublicKey
    try:
        signature = base64.b64decode(told["signature"], validate=True)
        if base64.b64encode(signature).decode() != told["signature"]:
            return False
        ed25519.from_public_bytes(key).verify(signature, _signed(told))
    except library("exceptions").InvalidSignature:
        return False
    return True


def ingredient(source: Path, credentials: Sequence[Credential]) -> dict[str, Any]:
    """What is known of a file that another one was made from."""
    held = [
        {"kind": each.kind, "valid": each.is_valid, "signer": each.signer, "says": dict(each.says)}
        for each in credentials
    ]
    return {"file": source.name, "sha256": sha256(source), "credentials": held}


def _line(ingredient: Mapping[str, Any]) -> str:
    credentials = _listed(ingredient.get("credentials"))
    held = [f"{each.get('kind')} {'valid' if each.get('valid') else 'NOT valid'} by "
            f"{each.get('signer')!r}" for each in credentials]  # fmt: skip
    return f"{ingredient.get('file')} ({', '.join(held) or 'no credential'})"


def _words(told: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}


def _listed(told: Any) -> list[dict[str, Any]]:
    return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
