"""Records as the first released program wrote them: its schema, filled row by row through SQL.

Written down here once more, byte by byte, so that what changes in the program does not change it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import MetaData, insert

from morphogen.records.database import Database
from morphogen.records.migrating import migrate

RING, HOUSE, INDEX, ANN = (bytes([number]) * 32 for number in (1, 2, 3, 4))
HOUSE_KEY, ANN_KEY = 1, 3  # the numbers of these data keys
THEN = 1_700_000_000.5
FAR = 4_000_000_000.0
KEY, SESSION = "mg-word", "ms-word"


def write(place: str | Path, item: Path) -> int:
    """Fill a new database; `item` is a file that a dataset holds. Returns how many values are
    encrypted in it."""
    database = Database(place)
    migrate(database, "0001")
    schema = MetaData()
    schema.reflect(database.engine)
    rows = _rows(item)
    assert set(rows) == set(schema.tables) - {"alembic_version"}
    with database.write() as session:
        for table in schema.sorted_tables:
            if table.name in rows:
                for row in rows[table.name]:
                    session.execute(insert(table).values(**row))
    database.close()
    return SEALED


SEALED = 12


def _sealed(key: int, value: Any, purpose: str) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    nonce, cipher = os.urandom(12), AESGCM({HOUSE_KEY: HOUSE, ANN_KEY: ANN}[key])
    return struct.pack("<q", key) + nonce + cipher.encrypt(nonce, data, purpose.encode())


def _blind(purpose: str, value: bytes) -> bytes:
    return hmac.digest(INDEX, purpose.encode() + b"\0" + value, hashlib.sha256)


def _address(*parts: bytes) -> bytes:
    lengths = b"".join(struct.pack("<q", len(part)) for part in parts)
    return _blind("address 1", lengths + b"".join(parts))


def _wrapped(key: bytes, name: str) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(RING).encrypt(nonce, key, name.encode())


def _rows(item: Path) -> dict[str, list[dict[str, Any]]]:
    """Table -> rows; the database numbers them from 1 on."""
    asked, answered = _address(b"text", b"a zebra please"), _address(b"text", b"one quokka")
    node = _address(b"", b"user", asked)
    line = [1, repr(THEN), 1, "tested", "user 1", {"why": "old"}]
    chain = _blind("audit", json.dumps(line, sort_keys=True).encode())
    digest = hashlib.blake2b(item.read_bytes(), digest_size=12).hexdigest()
    items = {"train": [[item.name, digest]], "test": []}
    words = ["a", "zebra", "please", "one", "quokka", "zebr*", "plea*", "quok*"]
    ring = hmac.digest(RING, b"morphogen records key", hashlib.sha256).hex()[:16]
    when = {"created": THEN}
    return {
        "settings": [{"name": "key", "value": ring},
                     {"name": "audit.head", "value": f"1:{chain.hex()}"}],
        "rules": [{"kind": "generations", "seconds": 86400.0}],
        "users": [{"blind": _blind("user", b"ann"), "name": _sealed(ANN_KEY, b"ann", "user 1"),
                   "role": "trainer", "state": "active", **when}],
        "data_keys": [
            {"name": "house", "purpose": "content", "wrapped": _wrapped(HOUSE, "house"), **when},
            {"name": "index", "purpose": "index", "wrapped": _wrapped(INDEX, "index"), **when},
            {"name": "ann", "purpose": "content", "wrapped": _wrapped(ANN, "ann"), "user_id": 1,
             **when},
        ],
        "api_keys": [{"name": "ci", "hash": _blind("key", KEY.encode()), "user_id": 1,
                      "role": "generate", **when}],
        "sign_ins": [{"hash": _blind("session", SESSION.encode()), "user_id": 1, "expires": FAR,
                      **when}],
        "audit": [{"id": 1, "time": THEN, "user_id": 1, "action": "tested", "subject": "user 1",
                   "facts": {"why": "old"}, "chain": chain}],
        "fragments": [
            {"address": each, "user_id": 1, "kind": "text",
             "content": _sealed(ANN_KEY, text, f"fragment {each.hex()}")}
            for each, text in ((asked, b"a zebra please"), (answered, b"one quokka"))
        ],
        "prompts": [
            {"address": node, "user_id": 1, "role": "user", **when},
            {"address": _address(node, b"assistant", answered), "parent_id": 1, "user_id": 1,
             "role": "assistant", **when},
        ],
        "prompt_parts": [{"prompt_id": n, "position": 0, "fragment_id": n} for n in (1, 2)],
        "templates": [{"name": "greet", "version": 1, "user_id": 1, **when, "text": _sealed(
            HOUSE_KEY, {"text": "Hello {name}", "settings": {}, "note": ""}, "template greet:1")}],
        "template_labels": [{"name": "greet", "label": "production", "template_id": 1}],
        "datasets": [{"name": "photos", "digest": "d1", "modality": "image", "num_train": 1,
                      "num_test": 0, **when,
                      "about": _sealed(HOUSE_KEY, {"place": str(item.parent)}, "dataset d1"),
                      "items": _sealed(HOUSE_KEY, zlib.compress(json.dumps(items).encode()),
                                       "items d1")}],
        "runs": [{"dataset_id": 1, "user_id": 1, "family": "vae", "state": "finished", "seed": 3,
                  "started": THEN, "finished": THEN + 1,
                  "about": _sealed(HOUSE_KEY, {"place": "/m", "recipe": {}}, "run 1")}],
        "models": [{"hash": "ab" * 32, "name": "boots", "family": "vae", "modality": "image",
                    "run_id": 1, "about": _sealed(HOUSE_KEY, {"place": "/m"}, f"model {'ab' * 32}"),
                    **when}],
        "evaluations": [{"model_id": 1, "dataset_id": 1, "verdict": "no sign of copying",
                         "passed": True, **when,
                         "record": _sealed(HOUSE_KEY, {"scores": {}}, "evaluation 1")}],
        "generations": [{"uid": "7" * 20, "user_id": 1, "key_id": 1, "prompt_id": 1,
                         "answer_id": 2, "template_id": 1, "model_id": 1, "model_name": "boots",
                         "model_hash": "ab" * 32, "task": "chat", "seed": 3, "state": "finished",
                         "reason": "stop", "verdict": "no sign of copying", "started": THEN,
                         "finished": THEN + 1, "usage": {"prompt_tokens": 4},
                         "parameters": _sealed(ANN_KEY, {"top_p": 0.9}, f"parameters {'7' * 20}")}],
        "words": [{"word": int.from_bytes(_blind("word", w.encode())[:8], "little", signed=True),
                   "generation_id": 1} for w in words],
        "artefacts": [{"generation_id": 1, "digest": _blind("file", b"x"), "suffix": ".png",
                       "place": _sealed(ANN_KEY, b"/a.png", f"artefact {'7' * 20}")}],
        "annotations": [{"generation_id": 1, "user_id": 1, "kind": "human", "name": "rating",
                         "value": 5.0, **when,
                         "explanation": _sealed(ANN_KEY, b"lovely", f"annotation {'7' * 20}")}],
        "dataset_pairs": [{"dataset_id": 1, "generation_id": 1}],
    }  # fmt: skip
