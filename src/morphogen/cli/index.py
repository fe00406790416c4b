"""`morphogen index docs/ --out indexes/handbook`."""

from __future__ import annotations

from typing import Annotated

import typer

from morphogen.core.visible import in_shell


def index(
    documents: Annotated[str, typer.Argument(help="folder, or a file: PDF, DOCX, HTML, text, ..")],
    *,
    out: Annotated[
        str, typer.Option(help="folder, or postgresql://..#NAME, s3://..; one there is updated")
    ],
    by: Annotated[
        str | None,
        typer.Option(help="who embeds: a bundle, an address, or `words` for none"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="its name, at an address")] = None,
    readers: Annotated[
        list[str] | None, typer.Option(help="group that may read them; everyone, if none is named")
    ] = None,
    language: Annotated[
        str, typer.Option(help="whose words are cut to their stems; `none` for none")
    ] = "english",
    most: Annotated[int, typer.Option(min=100, help="characters of a passage")] = 1200,
    mask_personal: Annotated[
        bool, typer.Option("--mask-personal", help="of a new one: cover addresses, numbers, ..")
    ] = False,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="of documents that are nearly the same, one")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Read documents into an index that is searched by words and by meaning.

    Only what changed is read again; what is gone is forgotten.
    """
    from morphogen.cli._parts import print_json
    from morphogen.core.errors import RecipeError
    from morphogen.systems.knowledge import stores
    from morphogen.systems.knowledge.embedders import DEFAULT, default_embedder, embedder_of
    from morphogen.systems.knowledge.index import Index
    from morphogen.systems.knowledge.passage import EVERYONE
    from morphogen.systems.knowledge.reading import read_into

    named = None if by is None else embedder_of(by, name)
    if stores.exists(out):
        opened = Index.open(out, named)
        if mask_personal and not opened.store.about.get("masked"):
            raise RecipeError("this index was made with personal data in it", where=out,
                              hint="--out ANOTHER")  # fmt: skip
    else:
        stems = None if language == "none" else language
        opened = Index.make(out, named or default_embedder(), most=most, language=stems,
                            masked=mask_personal)  # fmt: skip
    told = read_into(opened, documents, readers=readers or (EVERYONE,), distinct=distinct)
    if as_json:
        print_json(told.to_json())
        return
    print(told.text())
    by_words = not opened.embedder.dim
    how = "found by words alone" if by_words else f"embedded by {opened.embedder.name}"
    print(f"{out}: {len(opened):,} passages, {how}")
    if by_words and by is None:
        print(f"by meaning too, in another index: --by MODEL, such as {DEFAULT} of `make models`")
    print(f'next: morphogen search {in_shell(out)} "..."')
