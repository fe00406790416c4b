"""What serving is worth, in parts; a line of JSON for each, as it is done.

    python benchmarks/serve.py                         all of them
    python benchmarks/serve.py --overhead --kills 50   some
    python benchmarks/serve.py --streams --model published/smollm2

--streams   one client after the other, then 64 at once: tokens a second, errors, lost records
--overhead  the median of calls of one token of a tiny model by HTTP, less that in this process,
            and seconds of a processor for each
--pictures  a random U-Net drawn by one client, by 16, and here one by one
--kills     so many times SIGKILL under load: is every record that was acknowledged there, the
            database sound, and the server up again in time?
--pages     pages of the studio over 100,000 generations, searched and filtered

Each part takes less than ten minutes. The load of the machine, which stands beside each number, is
to be about nothing for ratios and times to mean much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import torch

from _serving import PROMPT, Server, picture_model, tell, text_model
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.writing import Request
from morphogen.records import open as records_at
from morphogen.records.searching import Filters
from morphogen.records.verifying import verify
from records import NUM, fill

LOST_WAIT = 5.0  # seconds that a client waits for a server that was killed


async def stream(client: httpx.AsyncClient, model: str, seed: int) -> tuple[int, str]:
    """One text of 32 tokens -> how many came, and the id that it was acknowledged by."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 32, "seed": seed, "stream": True,
            "logprobs": 0}  # fmt: skip
    num, uid, is_whole = 0, "", False
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            is_whole |= line == "data: [DONE]"
            if line.startswith("data: {"):
                chunk = json.loads(line[6:])
                uid = uid or chunk["id"].removeprefix("cmpl-")
                for choice in chunk["choices"]:
                    num += len((choice["logprobs"] or {}).get("tokens", ()))
    if not is_whole:
        raise ValueError("a stream that was cut short")
    return num, uid


async def streams(
    url: str, model: str, clients: int, seconds: float
) -> tuple[float, list[str], list[str]]:
    """Tokens a second of so many clients, what was acknowledged, and errors."""
    tokens, known, errors = 0, list[str](), list[str]()
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        await stream(client, model, 0)
        began = time.perf_counter()

        async def ask(number: int) -> None:
            nonlocal tokens
            while time.perf_counter() - began < seconds:
                try:
                    num, uid = await stream(client, model, number + 1000 * len(known))
                except (httpx.HTTPError, ValueError, KeyError) as error:
                    errors.append(repr(error)[:200])
                else:
                    tokens += num
                    known.append(uid)

        await asyncio.gather(*(ask(number) for number in range(clients)))
        return tokens / (time.perf_counter() - began), known, errors


def measure_streams(folder: Path, told: argparse.Namespace) -> None:
    """Many clients against one."""
    model = "texts"
    if told.model:
        model = "given"
        (folder / model).symlink_to(Path("models").absolute() / told.model)
    else:
        text_model(folder / model, 384, 6)
    options = ("--rows", str(told.clients), "--threads", str(told.threads))
    with Server(folder, options) as server:
        one, *_ = asyncio.run(streams(server.url, model, 1, told.seconds / 4))
        many, known, errors = asyncio.run(streams(server.url, model, told.clients, told.seconds))
    tell("streams", model=told.model or "10M random weights", clients=told.clients,
         seconds=told.seconds, tokens_s_alone=round(one, 1), tokens_s=round(many, 1),
         ratio=round(many / one, 2), streams=len(known), errors=len(errors), first=errors[:3],
         lost=lost(server, known))  # fmt: skip


def lost(server: Server, known: list[str]) -> int:
    """How many of the answers that were acknowledged are not in the records as finished."""
    with records_at(server.records, key=server.key) as records:
        return sum(records.generations.get(uid).state != "finished" for uid in known)


def measure_overhead(folder: Path, told: argparse.Namespace) -> None:
    """The price of a call."""
    text_model(folder / "tiny", 64, 2)
    bundle = Bundle.open(folder / "tiny")
    model: Any = bundle.family
    (prompt,) = (torch.as_tensor(each) for each in bundle.codec.encode_sequences([Item(PROMPT)]))
    there, here = list[float](), list[float]()
    with Server(folder, ("--threads", "1")) as server, httpx.Client(base_url=server.url) as client:
        torch.set_num_threads(1)
        for seed in range(told.calls + WARM):
            if seed == WARM:
                before, own = server.processor_s(), time.process_time()
            body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 1, "seed": seed}
            began = time.perf_counter()
            client.post("/v1/completions", json=body, timeout=60).raise_for_status()
            middle = time.perf_counter()
            list(model.write([Request(prompt, 1, seed=seed)], num_rows=1))
            there.append(1000 * (middle - began))
            here.append(1000 * (time.perf_counter() - middle))
        after = server.processor_s()
        own = time.process_time() - own
    each = {name: 1000 * (after[name] - before[name]) / told.calls for name in after}
    ms = statistics.median(there[WARM:]), statistics.median(here[WARM:])
    tell("overhead", calls=told.calls, http_ms=round(ms[0], 2), direct_ms=round(ms[1], 2),
         overhead_ms=round(ms[0] - ms[1], 2), least_ms=round(min(there) - min(here), 2),
         processor_ms={name: round(value, 2) for name, value in each.items()},
         client_and_direct_processor_ms=round(1000 * own / told.calls, 2))  # fmt: skip


WARM = 10  # calls that are not counted


async def pictures(url: str, clients: int, seconds: float) -> float:
    """Pictures a second of so many clients."""
    drawn = 0
    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        body = {"model": "pictures", "num": 1, "seed": 0}
        (await client.post("/v1/generate", json=body)).raise_for_status()
        began = time.perf_counter()

        async def ask(number: int) -> None:
            nonlocal drawn
            while time.perf_counter() - began < seconds:
                answer = await client.post("/v1/generate", json={**body, "seed": drawn})
                answer.raise_for_status()
                drawn += 1

        await asyncio.gather(*(ask(number) for number in range(clients)))
        return drawn / (time.perf_counter() - began)


def measure_pictures(folder: Path, told: argparse.Namespace) -> None:
    """One client, sixteen, and no server at all."""
    bundle = Bundle.open(picture_model(folder / "pictures"))
    with Server(folder, ("--threads", str(told.threads))) as server:
        one = asyncio.run(pictures(server.url, 1, told.seconds / 4))
        many = asyncio.run(pictures(server.url, 16, told.seconds / 4))
    if told.threads:
        torch.set_num_threads(told.threads)
    began, num = time.perf_counter(), 0
    while time.perf_counter() - began < told.seconds / 4:
        bundle.task("generate", num=1, seed=num)
        num += 1
    alone = num / (time.perf_counter() - began)
    tell("pictures", alone_s=round(one, 2), of_16_clients_s=round(many, 2),
         ratio=round(many / one, 2), one_by_one_in_a_process_s=round(alone, 2),
         ratio_to_that=round(many / alone, 2))  # fmt: skip


def measure_kills(folder: Path, told: argparse.Namespace) -> None:
    """SIGKILL under load, again and again."""
    text_model(folder / "tiny", 64, 2)
    draw, known, ups = random.Random(0), list[str](), list[float]()
    for number in range(told.kills):
        server = Server(folder, ("--threads", "1"))
        ups.append(server.up_s)
        known += asyncio.run(until_killed(server, draw.random(), 10**6 * number))
    with Server(folder) as server:
        ups.append(server.up_s)
    with records_at(server.records, key=server.key) as records:
        states = [records.generations.get(uid).state for uid in known]
        problems = verify(records).problems
        left = records.search.count(filters=Filters(state="started"))
    tell("kills", kills=told.kills, acknowledged=len(known),
         lost=sum(state != "finished" for state in states), left_open=left,
         problems=problems, up_s_median=round(statistics.median(ups), 2),
         up_s_most=round(max(ups), 2))  # fmt: skip


async def until_killed(server: Server, after: float, seed: int) -> list[str]:
    """What 8 clients had acknowledged when a server was killed, so long after the first."""
    known = list[str]()
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def ask(number: int) -> None:
            try:
                while True:
                    _, uid = await stream(client, "tiny", seed + 1000 * number + len(known))
                    known.append(uid)
            except (httpx.HTTPError, ValueError):
                return

        asking = [asyncio.ensure_future(ask(number)) for number in range(8)]
        while not known:
            await asyncio.sleep(0.01)
        await asyncio.sleep(after)
        server.end(signal.SIGKILL)
        await asyncio.wait(asking, timeout=LOST_WAIT)
    return known


def measure_pages(folder: Path, told: argparse.Namespace) -> None:
    """The studio over many generations."""
    began = time.perf_counter()
    with records_at(folder / "records.db", key=folder / "records.key") as records:
        fill(records, told.generations)
    filled = time.perf_counter() - began
    asked = {
        "first page": {}, "page in the middle": {"before": told.generations // 2},
        "the commonest word": {"text": "w00000"}, "three common words": {"text": "w00000 w00001"},
        "a rare word": {"text": "w09000"}, "a beginning": {"text": "w0900*"},
        "no such word": {"text": "nowhere"}, "rated 5": {"rated": "5"},
        "rated 5, a common word": {"rated": "5", "text": "w00001"},
        "a model": {"model": "model 3"}, "cut": {"state": "cut"}, "the last day": {"since": "1"},
    }  # fmt: skip
    with Server(folder) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        ms = {
            name: round(1000 * statistics.median(page(client, fields) for _ in range(15)), 1)
            for name, fields in asked.items()
        }
    tell("pages", generations=told.generations, filled_s=round(filled), ms=ms,
         most_ms=max(ms.values()))  # fmt: skip


def page(client: httpx.Client, fields: dict[str, Any]) -> float:
    """Seconds until a page is there."""
    began = time.perf_counter()
    client.get("/records", params=fields).raise_for_status()
    return time.perf_counter() - began


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "streams": measure_streams,
    "overhead": measure_overhead,
    "pictures": measure_pictures,
    "kills": measure_kills,
    "pages": measure_pages,
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("streams", "overhead", "pictures"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--kills", type=int, nargs="?", const=50, help="how many; 50 unless told")
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--model", help="a model of models/, in place of a random one")
    parser.add_argument("--seconds", type=float, default=120.0, help="of 64 streams")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--calls", type=int, default=300, help="of which the median is taken")
    parser.add_argument("--generations", type=int, default=NUM)
    parser.add_argument("--threads", type=int, default=0, help="of a model; 0: all cores")
    told = parser.parse_args()
    wanted = [name for name in PARTS if getattr(told, name)] or list(PARTS)
    told.kills = told.kills or 50
    for name in wanted:
        with tempfile.TemporaryDirectory() as place:
            PARTS[name](Path(place), told)


if __name__ == "__main__":
    main()
