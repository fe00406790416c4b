"""A graph of entities as a picture: SVG, which holds its own words and runs nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from morphogen.core.extras import extra
from morphogen.core.storage import write_text
from morphogen.core.visible import in_html
from morphogen.systems.memory.graph import Edge, Graph
from morphogen.systems.memory.note import written

WIDTH, HEIGHT, MARGIN, RADIUS = 960, 640, 90, 7
MOST_EDGES = 400
LOOK = (
    "text{font:13px system-ui,sans-serif;fill:#1c2733}.said{font-size:11px;fill:#52606d}"
    "line{stroke:#9aa5b1;stroke-width:1.2}circle{fill:#2b6cb0}rect{fill:#fff}"
    "@media(prefers-color-scheme:dark){rect{fill:#15202b}text{fill:#e4e7eb}.said{fill:#9aa5b1}}"
)


def svg(graph: Graph, *, at: float | None = None) -> str:
    """The relations that hold at a time, or all, as a drawing; the same graph, the same picture."""
    edges = graph.edges(at=at)[:MOST_EDGES]
    shown = Graph(dict.fromkeys(edge.note for edge in edges)).entities
    names = [each for each in shown if any(each.casefold() in edge.ends for edge in edges)]
    places = _laid_out(names, edges)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{len(names)} entities, {len(edges)} relations">',
        f"<style>{LOOK}</style>", f'<rect width="{WIDTH}" height="{HEIGHT}"/>',
        '<defs><marker id="end" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#9aa5b1"/></marker></defs>',
        *(_edge(edge, places) for edge in edges),
        *(_entity(name, places[name.casefold()]) for name in names), "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def draw(graph: Graph, path: Path | str, *, at: float | None = None) -> Path:
    """Write the picture."""
    return write_text(Path(path), svg(graph, at=at))


def _laid_out(names: list[str], edges: list[Edge]) -> dict[str, tuple[float, float]]:
    """A place for each entity: those that stand in relation near each other."""
    library: Any = extra("networkx", "agents", "a graph is laid out")
    net = library.Graph()
    net.add_nodes_from(name.casefold() for name in names)
    net.add_edges_from(edge.ends for edge in edges)
    spread = library.spring_layout(net, seed=0, k=1.6 / math.sqrt(max(len(names), 1)))
    return {
        name: (
            MARGIN + (x + 1) / 2 * (WIDTH - 2 * MARGIN),
            MARGIN + (y + 1) / 2 * (HEIGHT - 2 * MARGIN),
        )
        for name, (x, y) in spread.items()
    }


def _edge(edge: Edge, places: dict[str, tuple[float, float]]) -> str:
    (x, y), (to_x, to_y) = (places[each] for each in edge.ends)
    length = max(math.hypot(to_x - x, to_y - y), 1e-9)
    short = (RADIUS + 3) / length
    end_x, end_y = to_x - (to_x - x) * short, to_y - (to_y - y) * short
    since = edge.relation.since
    dated = "" if since is None else f", since {written(since)}"
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end_x:.1f}" y2="{end_y:.1f}" '
        f'marker-end="url(#end)"><title>{in_html(edge.note.text)}</title></line>'
        f'<text class="said" x="{(x + to_x) / 2:.1f}" y="{(y + to_y) / 2 - 4:.1f}" '
        f'text-anchor="middle">{in_html(edge.relation.relation + dated)}</text>'
    )


def _entity(name: str, place: tuple[float, float]) -> str:
    x, y = place
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>'
        f'<text x="{x:.1f}" y="{y - 12:.1f}" text-anchor="middle">{in_html(name)}</text>'
    )
