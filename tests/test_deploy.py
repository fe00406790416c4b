"""What containers are built and run from: that all that is named there is here."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import typer

from morphogen.cli.app import build_app

ROOT = Path(__file__).parents[1]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()


def instructions(name: str) -> list[str]:
    joined = CONTAINERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def test_what_is_copied_is_there_and_extras_exist():
    here = [each for each in instructions("COPY") if not each.startswith("--from")]
    sources = [word for each in here for word in each.split()[:-1]]
    assert {"pyproject.toml", "src"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for asked in re.findall(r"\.\[([\w,-]+)\]", CONTAINERFILE):
        assert set(asked.split(",")) <= set(extras["optional-dependencies"])


def test_it_is_started_with_options_that_there_are():
    (command,), (entry,) = instructions("CMD"), instructions("ENTRYPOINT")
    verb, *options = json.loads(command)
    assert json.loads(entry) == ["morphogen"]
    known = typer.main.get_command(build_app()).commands[verb]
    names = {name for each in known.params for name in each.opts}
    assert {each for each in options if each.startswith("--")} <= names
    (health,) = instructions("HEALTHCHECK")
    code = json.loads(health[health.index("[") :])[-1]
    ast.parse(code)
    assert "/readyz" in code
    assert instructions("USER") == ["morphogen"]  # not root


def test_compose_names_nothing_that_is_not_there():
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    services = told["services"]
    build = services["morphogen"]["build"]
    context = (ROOT / "deploy" / build["context"]).resolve()
    assert (context, (context / build["dockerfile"]).is_file()) == (ROOT, True)
    for service in services.values():
        named = [each.partition(":")[0] for each in service["volumes"]]
        assert {each for each in named if each.isalpha()} <= set(told["volumes"])
        assert set(service.get("depends_on", {})) <= set(services)
    assert services["morphogen"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert "healthcheck" in services["postgres"]
    environment = services["morphogen"]["environment"]
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in environment:
        known = name in source or name.replace("MORPHOGEN_", "") in source
        assert name.startswith("PG") or known, name
    # Nobody else reaches it unless somebody says so.
    assert all(each.startswith("127.0.0.1:") for each in services["morphogen"]["ports"])
    from morphogen.serve.settings import Settings

    assert int(services["morphogen"]["stop_grace_period"][:-1]) > Settings().patience
