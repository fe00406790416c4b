"""A bundle's card: what is known of a model, from its own records and nothing else.

The layout is that of Hugging Face model cards (Mitchell et al. 2019, "Model cards for model
reporting"): YAML front matter, then Markdown. Nothing in it is an opinion or a date, so the same
bundle gives the same bytes; what was not measured is said to be not measured, with what to type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphogen.core import discover
from morphogen.core.border import reading
from morphogen.core.config import read_config, read_log, read_metrics
from morphogen.core.recipe import component_of
from morphogen.core.spec import spec_from_json
from morphogen.core.storage import write_text
from morphogen.core.visible import as_code, in_markdown
from morphogen.evaluation import _group_report


def write_card(path: Path | str, *, trust: bool = False) -> Path:
    """Write README.md into a bundle's folder, from config.json, metrics.json and log.jsonl.

    Raises `BundleError` when the folder holds no bundle.
    """
    path = Path(path)
    if trust:
        discover.vouch(read_config(path))
    return write_text(path / "README.md", card(path))


def card(path: Path) -> str:
    """The text of the card."""
    config, metrics = read_config(path), read_metrics(path)
    with reading("the record of the bundle", path):
        return _text(config, metrics, path)


def _text(config: Mapping[str, Any], metrics: Mapping[str, Any], path: Path) -> str:
    axis, name = component_of(config["recipe"])
    sections = [
        _front_matter(config, name),
        f"# {in_markdown(_words(name))} of {in_markdown(config['codec']['name'])} data",
        discover.summary(discover.find(axis, name)),
        *(["## Origin\n\n" + _origin(config["origin"])] if config.get("origin") else []),
        "## Data\n\n" + _data(config),
        "## Training\n\n" + _training(config, path),
        "## Evaluation\n\n" + _evaluation(metrics),
        "## Use\n\n```sh\n" + "\n".join(_commands(axis)) + "\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _commands(axis: str) -> list[str]:
    """What to begin with. Not all that other libraries run draws something."""
    draws = ["morphogen sample . -n 16 --seed 0"] if axis == "family" else []
    return [*draws, "morphogen tasks .", "morphogen cite ."]


def _front_matter(config: Mapping[str, Any], name: str) -> str:
    tags = (name, config["codec"]["name"])
    return "\n".join(
        ["---", "library_name: morphogen", "tags:", *(f"- {_yaml(t)}" for t in tags), "---"]
    )


def _yaml(text: str) -> str:
    return text if re.fullmatch(r"[\w.-]+", text) else json.dumps(text)


def _origin(origin: Mapping[str, Any]) -> str:
    """Where weights came from that others made."""
    words = ("source", "name", "package", "licence", "quantised")
    rows = [(word, as_code(origin[word])) for word in words if word in origin]
    rows += [(f"sha256 of {name}", as_code(told)) for name, told in origin.get("files", {}).items()]
    rows += [("chat template", as_code("as it came"))] if "chat_template" in origin else []
    return _table(("", ""), rows)


def _data(config: Mapping[str, Any]) -> str:
    data = config["data"]
    spec = spec_from_json(config["spec"])
    conditions = ", ".join(config["conditions"]) or "none"
    tags = [
        (tag, ", ".join(f"{value} ({count:,})" for value, count in counts.items()))
        for tag, counts in data.get("tags", {}).items()
    ]
    return _table(
        ("", ""),
        [
            ("source", Path(str(data.get("source", "not recorded"))).name),
            ("training items", f"{data.get('num_train', 0):,}"),
            ("held-out items", f"{data.get('num_test', 0):,}"),
            ("items that could not be used", f"{data.get('num_skipped', 0):,}"),
            ("one item", str(spec)),
            ("conditions", conditions),
            *((f"{tag} of items", counts) for tag, counts in tags),
            ("digest", as_code(data.get("digest", "not recorded"))),
        ],
    )


def _training(config: Mapping[str, Any], path: Path) -> str:
    if config["recipe"].get("driver"):
        return "It was trained elsewhere, by those who published it, and is run by their library."
    rows = [
        (f"{table}.{option}", as_code(value))
        for table in ("start", "objective", "family", "backbone", "train")
        for option, value in sorted(config["recipe"][table].items())
    ]
    said = [_table(("option", "value"), rows)]
    if logs := read_log(path / "log.jsonl"):
        last = logs[-1]
        said.insert(0, f"{last['step']:,} steps in {last['seconds']:,.0f} seconds.")
    alarms = read_metrics(path).get("alarms", [])
    said += [_in_list(f"Alarm at step {a['step']:,}: {a['kind']}: {a['message']}") for a in alarms]
    return "\n\n".join(said)


def _evaluation(metrics: Mapping[str, Any]) -> str:
    record = metrics.get("evaluation")
    if not record:
        return "Not evaluated: `morphogen evaluate .` would."
    rows = [
        (
            _words(name),
            f"{score['value']:.4g}",
            f"{score['low']:.4g} to {score['high']:.4g}" if "low" in score else "",
            f"{score['floor']:.4g}" if "floor" in score else "",
            {True: "high", False: "low"}.get(score.get("higher_is_better"), ""),
            f"{score['n']:,}",
            score.get("note", ""),
        )
        for name, score in sorted(record["scores"].items())
    ]
    head = ("score", "value", "95 % interval", "real data", "better", "n", "")
    said = [_table(head, rows)]
    copying = record.get("copying")
    said.append(
        f"Copying: **{in_markdown(copying['verdict'])}**. {in_markdown(copying['reason'])}."
        if copying
        else "Copying was not judged."
    )
    said += [_in_list(warning) for warning in record.get("warnings", [])]
    for label, told in sorted(record.get("groups", {}).items()):
        said.append(f"### Groups: {in_markdown(label)}")
        said += [_in_list(finding) for finding in told["findings"]]
        said += map(in_markdown, _group_report.summary(told))
        if told["measured"]:
            said.append(_table(*_group_report.table(told)))
    facts = [(_words(name), as_code(value)) for name, value in sorted(record["protocol"].items())]
    said += ["How it was measured:", _table(("", ""), facts)]
    return "\n\n".join(said)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(in_markdown, line)) + " |" for line in lines)


def _in_list(text: str) -> str:
    """An item of a list."""
    return f"- {in_markdown(text)}"


def _words(name: str) -> str:
    return name.replace("_", " ")
