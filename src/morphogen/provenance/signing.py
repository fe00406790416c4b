"""Credentials of what was made: in the file where its format has a place for one, else beside it.

provenance_of(bundle, watermark=True)    what `Bundle.provenance` is set to
read(path)                               what is in a file, and what lies beside it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from morphogen.core.provenance import Provenance
from morphogen.provenance import beside, inside
from morphogen.provenance.credential import Credential
from morphogen.provenance.identity import Identity
from morphogen.provenance.token_mark import TokenMark


def provenance_of(*, watermark: bool, generation: str = "") -> Provenance | None:
    """What is left in and beside what is made here: credentials where this installation has a key
    to sign with; watermarks where they are asked for.

    Raises `MorphogenError` where a watermark is asked for and there is no key.
    """
    identity = Identity.needed() if watermark else Identity.open()
    if identity is None:
        return None
    key = identity.watermark if watermark else None
    marking = partial(TokenMark, key) if key is not None else None
    return Provenance(partial(sign, identity), key, marking, generation)


def sign(
    identity: Identity, files: Sequence[Path], says: Mapping[str, str], sources: Sequence[Path] = ()
) -> None:
    """Give every file a credential, which holds those of the files that it was made from."""
    sources = [source for source in sources if source.is_file()]
    known = [(source, read(source)) for source in sources]
    told = [beside.ingredient(*each) for each in known]
    apart = [
        source.name for source, found in known if any(each.kind == "side-car" for each in found)
    ]
    for file in files:
        if inside.has_place(file):
            made_from = {"made_from": ", ".join(apart)} if apart else {}
            inside.sign(file, {**says, **made_from}, identity, sources)
        else:
            beside.sign(file, says, identity, told)


def read(path: Path, identity: Identity | None = None) -> list[Credential]:
    """The credentials of a file."""
    return [found for how in (inside, beside) if (found := how.read(path, identity)) is not None]
