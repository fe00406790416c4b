"""C2PA manifests inside files, by the library of the Content Authenticity Initiative.

    action        c2pa.created, of the IPTC's kind trainedAlgorithmicMedia, by Morphogen
    assertion     morphogen.origin: the model, its hash, the seed, the generation, ..
    ingredients   the files that it was made from, where these had credentials: they go in whole

No time stamp is asked for and nothing is fetched: there may be no network. Thumbnails are left out.
"""

from __future__ import annotations

import importlib.util
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import morphogen
from morphogen.core.errors import MorphogenError
from morphogen.core.extras import extra
from morphogen.core.provenance import SYNTHETIC
from morphogen.core.storage import write_atomic
from morphogen.provenance.credential import Credential
from morphogen.provenance.identity import Identity, chain_of

FORMATS = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
    ".gif": "image/gif", ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif",
    ".svg": "image/svg+xml", ".wav": "audio/wav", ".mp3": "audio/mpeg", ".mp4": "video/mp4",
}  # fmt: skip
ORIGIN = "morphogen.origin"  # the assertion that says more than C2PA has words for
UNTRUSTED = "signingCredential.untrusted"  # by no authority that the library knows: told apart
SOFTWARE = {"name": "Morphogen", "version": morphogen.__version__}


def has_place(path: Path) -> bool:
    """Whether a manifest can be put into a file of this kind, here."""
    return path.suffix.lower() in FORMATS and importlib.util.find_spec("c2pa") is not None


def sign(
    path: Path, says: Mapping[str, str], identity: Identity, sources: Sequence[Path] = ()
) -> Path:
    """Put a manifest into a file. Raises `MorphogenError` where it cannot be written, or is not
    what its suffix says."""
    c2pa = _library()
    kept = [source for source in sources if has_place(source) and _has_manifest(source)]
    signer = c2pa.Signer.from_callback(
        identity.signer.sign, c2pa.C2paSigningAlg.ED25519, identity.certificates
    )
    made = io.BytesIO()
    with (
        _told(path),
        signer,
        _context(identity) as context,
        c2pa.Builder(_manifest(path, says, kept), context) as builder,
    ):
        for number, source in enumerate(kept):
            about = {"title": source.name, "relationship": "inputTo", "label": _label(number)}
            with source.open("rb") as file:
                builder.add_ingredient(json.dumps(about), FORMATS[source.suffix.lower()], file)
        with path.open("rb") as file:
            builder.sign(signer, FORMATS[path.suffix.lower()], file, made)
    return write_atomic(path, partial(_write, made.getvalue()))


def read(path: Path, identity: Identity | None = None) -> Credential | None:
    """What the manifest in a file says, and whether it holds; None where there is none."""
    if not has_place(path):
        return None
    if _checksum_fails(path):
        return Credential(
            "C2PA", ("its checksum is another: it was changed or damaged",), "", "", {}
        )
    c2pa = _library()
    try:
        with (
            path.open("rb") as file,
            _context(identity) as context,
            c2pa.Reader(FORMATS[path.suffix.lower()], file, context=context) as reader,
        ):
            return _found(json.loads(reader.json()), identity)
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, AttributeError, KeyError, TypeError, ValueError) as error:
        return Credential("C2PA", (f"it cannot be read: {error}",), "", "", {})


def _found(store: Mapping[str, Any], identity: Identity | None) -> Credential:
    manifest = store["manifests"].get(store.get("active_manifest", ""), {})
    failed = [each for each in store.get("validation_status", ()) if each["code"] != UNTRUSTED]
    problems = [str(each.get("explanation") or each["code"]) for each in failed]
    if store.get("validation_state") == "Invalid" and not problems:
        problems = ["the library calls it invalid"]
    signature = manifest.get("signature_info", {})
    is_trusted = store.get("validation_state") == "Trusted"
    issuer = str(signature.get("issuer", ""))
    known = ""
    if is_trusted and identity is not None:
        known = identity.knows_serial(str(signature.get("cert_serial_number", "")))
    if is_trusted and not known:
        known = f"{issuer}, for whom an authority of C2PA vouches"
    return Credential(
        "C2PA", tuple(dict.fromkeys(problems)), issuer, known, _says(manifest),
        ingredients=tuple(_line(each, store) for each in manifest.get("ingredients", ())),
        signed=str(signature.get("time") or ""),
    )  # fmt: skip


def _says(manifest: Mapping[str, Any]) -> dict[str, str]:
    says: dict[str, str] = {}
    for assertion in manifest.get("assertions", ()):
        data = assertion.get("data", {})
        if assertion["label"].startswith(ORIGIN):
            says |= {str(name): str(fact) for name, fact in data.items()}
        elif assertion["label"].startswith("c2pa.actions"):
            for action in data.get("actions", ()):
                kind = str(action.get("digitalSourceType", "")).rpartition("/")[2]
                says.setdefault(action["action"], kind or "done")
    for tool in manifest.get("claim_generator_info") or ():
        says.setdefault("software", f"{tool.get('name', '')} {tool.get('version', '')}".strip())
    return says


def _line(ingredient: Mapping[str, Any], store: Mapping[str, Any]) -> str:
    inner = store["manifests"].get(ingredient.get("active_manifest", ""), {})
    signer = inner.get("signature_info", {}).get("issuer", "nobody")
    failed = ingredient.get("validation_results", {}).get("activeManifest", {}).get("failure", ())
    holds = all(each["code"] == UNTRUSTED for each in failed)
    return f"{ingredient.get('title')} (C2PA {'valid' if holds else 'NOT valid'} by {signer!r})"


def _checksum_fails(path: Path) -> bool:
    """Whether the chunk of a PNG file that holds the manifest is not as it was written: the padding
    of a signature is neither signed nor hashed."""
    data, place = path.read_bytes(), 8
    while path.suffix.lower() == ".png" and place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"caBX":
            return zlib.crc32(data[place + 4 : end - 4]).to_bytes(4, "big") != data[end - 4 : end]
        place = end
    return False


def _manifest(path: Path, says: Mapping[str, str], kept: Sequence[Path]) -> dict[str, Any]:
    created: dict[str, Any] = {
        "action": "c2pa.created", "digitalSourceType": SYNTHETIC, "softwareAgent": SOFTWARE
    }  # fmt: skip
    if kept:
        created["parameters"] = {"ingredientIds": [_label(i) for i in range(len(kept))]}
    return {
        "claim_generator_info": [SOFTWARE],
        "title": path.name,
        "format": FORMATS[path.suffix.lower()],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": ORIGIN, "data": dict(says)},
        ],
    }


def _label(number: int) -> str:
    return f"input-{number}"


def _has_manifest(path: Path) -> bool:
    return b"c2pa" in path.read_bytes() and read(path) is not None


def _context(identity: Identity | None) -> Any:
    """Whom the library trusts here, and that it asks nobody."""
    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if identity is not None:
        known = [identity.certificates, *identity.trusted.values()]
        settings["trust"] = {"user_anchors": chain_of(known)}
    return _library().Context.from_dict(settings)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of the library as ours."""
    try:
        yield
    except _library().C2paError as error:
        raise MorphogenError(f"no credential could be put into it: {error}", where=path) from error


def _library() -> Any:
    return extra("c2pa", "credentials", "credentials inside files are written and read")


def _write(data: bytes, path: Path) -> None:
    path.write_bytes(data)
