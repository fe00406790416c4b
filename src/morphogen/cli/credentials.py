"""`morphogen credentials init --name "Ann"`: the key that what is made here is signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

credentials = typer.Typer(help="Who signs what is made here.", no_args_is_help=True)


@credentials.command()
def init(
    *,
    name: Annotated[str, typer.Option(help="what stands in the certificate, for all to read")],
) -> None:
    """Make a key and a certificate: what is made from now on is signed with them."""
    from morphogen.provenance.credential import ALONE
    from morphogen.provenance.identity import Identity

    made = Identity.new(name)
    print(f"{made.path}: keep it to yourself")
    print(f"certificate {made.fingerprint}\n{ALONE}")


@credentials.command()
def show(
    *,
    pem: Annotated[bool, typer.Option("--pem", help="the certificate itself, for others")] = False,
) -> None:
    """Whose key it is, its fingerprint, and whom this installation trusts."""
    from morphogen.cli._parts import print_table
    from morphogen.provenance.identity import Identity, fingerprint

    own = Identity.needed()
    if pem:
        print(own.certificates.strip())
        return
    rows = [("this installation", own.name, own.fingerprint)]
    rows += [("trusted", name, fingerprint(each)) for name, each in own.trusted.items()]
    print_table(rows)


@credentials.command()
def trust(
    name: Annotated[str, typer.Argument(help="whose it is, as you know from them")],
    certificate: Annotated[Path, typer.Argument(help="their certificate: a .pem file")],
) -> None:
    """Know by this name what somebody else signs."""
    from morphogen.core.border import read_text
    from morphogen.core.errors import DataError
    from morphogen.provenance.identity import Identity

    found = Identity.needed().trust(name, read_text(certificate, DataError))
    print(f"{name}: certificate {found}")
