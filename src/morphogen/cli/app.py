"""The console script: `morphogen VERB ...`.

A verb is a file of this folder that holds a function of the same name; its signature is its
options. Verb files import the standard library and typer at the top and everything else inside the
function, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from morphogen.cli._reading import ReadingShown
from morphogen.cli._terminal import bare, plain_output
from morphogen.core import discover
from morphogen.core.errors import MorphogenError
from morphogen.core.visible import visible
from morphogen.data.progress import listening

# Options of verbs whose texts are never places.
VALUES = {"cond", "label", "prompt", "settings", "system", "text"}


def build_app(only: str | None = None) -> typer.Typer:
    """The command line with every verb of this folder, in alphabetical order; or with one."""
    app = typer.Typer(
        name="morphogen",
        help="Train, judge and use generative models of your own data.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(global_options)
    for name in verbs() if only is None else [only]:
        module = importlib.import_module(f"morphogen.cli.{name}")
        # list.py holds list_: a trailing underscore keeps the builtin's name free.
        function = getattr(module, name, None) or getattr(module, f"{name}_")
        if isinstance(function, typer.Typer):  # a verb with verbs of its own
            for own in function.registered_commands:
                if own.callback is not None:
                    own.callback = with_home(own.callback)
            app.add_typer(function, name=name, epilog=example_in(module))
            continue
        more = {"epilog": example_in(module), **getattr(module, "COMMAND", {})}
        app.command(name, **more)(with_home(function))
    return app


def example_in(module: ModuleType) -> str | None:
    """The first command that the file of a verb shows: what its `--help` ends with."""
    found = re.search("`(morphogen [^`]+)`", module.__doc__ or "")
    return None if found is None else f"Example: {found[1]}"


def with_home(verb: Callable[..., object]) -> Callable[..., object]:
    """A verb that takes `~/x` for a place in the home folder wherever it takes a text, as a shell
    does where it sees the `~`: not after `--out=`. Texts that are values stay as they are."""
    if hasattr(verb, "__wrapped__"):
        return verb

    def there(value: object) -> object:
        if isinstance(value, (list, tuple)):
            return [there(each) for each in value]
        is_place = isinstance(value, str) and (value == "~" or value.startswith("~/"))
        return str(Path(str(value)).expanduser()) if is_place else value

    @functools.wraps(verb)
    def wrapper(*given: object, **options: object) -> object:
        found = {name: v if name in VALUES else there(v) for name, v in options.items()}
        return verb(*given, **found)

    return wrapper


def verbs() -> list[str]:
    """The verbs, sorted: the files of this folder, this one and private ones left out."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if name != "app" and not name.startswith("_"))


def global_options(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks of errors")] = False,
) -> None:
    """Train, judge and use generative models of your own data."""
    # `main` takes both out before typer looks; here they are declared for `--help`.


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Errors meant for the user end it with exit code 1, Ctrl-C with 130."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        from morphogen import __version__

        print(__version__)
        return
    # numba would draw in colours on exit, on what shows escape codes as text.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    debug = "--debug" in given
    for each in given:
        discover.vouch(re.split("[=,]", each))  # dotted paths that are typed may be imported
    try:
        with plain_output(), listening(ReadingShown()):
            asked = [each for each in given if each != "--debug"]
            is_verb = bool(asked) and asked[0] in verbs()  # the others need not be imported for it
            build_app(asked[0] if is_verb else None)(args=asked, prog_name="morphogen")
    except MorphogenError as error:
        if debug:
            raise
        with plain_output():
            tell(error)
        sys.exit(1)


def tell(error: MorphogenError) -> None:
    """An error, its first line in red on a terminal; the text itself stays as it is."""
    sentence, _, facts = str(error).partition("\n")
    if sys.stderr.isatty():
        styled = visible(f"error: {sentence}")
        print(f"\x1b[1;31m{styled}\x1b[0m", file=bare(sys.stderr))
    else:
        print(f"error: {sentence}", file=sys.stderr)
    if facts:
        print(facts, file=sys.stderr)


if __name__ == "__main__":
    main()
