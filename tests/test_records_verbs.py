"""What the verbs write into the records, and what is told from there."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

from PIL import Image as Pillow
from sqlalchemy import select

from morphogen import records
from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.errors import RecordsError
from morphogen.core.result import Result
from morphogen.data.dataset import Data
from morphogen.records.models import hash_of
from morphogen.records.pairs import make_dataset
from morphogen.records.prompts import Message
from morphogen.records.recording import evaluated
from morphogen.records.searching import Filters
from morphogen.records.tables import Dataset, DatasetPair, Evaluation, Model, Run
from morphogen.records.whence import whence

QUICK = (
    "--budget", "2steps", "--set", "backbone.name=mlp", "--set", "backbone.model_dim=8",
    "--set", "train.num_previews=0",
)  # fmt: skip


def verb(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert not end.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 40 pictures, records, and what verbs did there."""
    folder = tmp_path_factory.mktemp("place")
    draw = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(40):
        pixels = draw.integers(0, 255, (8, 8), dtype=np.uint8)
        Pillow.fromarray(pixels).save(folder / "photos" / f"{number:02d}.png")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RECORDS", "KEY_FILE"):
            patch.setenv(f"MORPHOGEN_{name}", str(folder / name.lower()))
        patch.chdir(folder)
        verb("records", "init")
        verb("train", "photos", "--family", "autoencoder", "--out", "first", *QUICK)
        verb("train", "photos", "--from", "first", "--out", "second", "--budget", "2steps")
        verb("sample", "second", "-n", "2", "--seed", "7", "--out", "made.png")
        verb("task", "reconstruct", "first", "photos/00.png", "--out", "again.png")
        yield folder


def said(capsys, *arguments):
    capsys.readouterr()
    verb(*arguments)
    return capsys.readouterr().out


def items(folder):
    return [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]


def test_a_file_leads_to_its_data_and_an_item_to_what_learned_it(place, capsys):
    with records.open() as own:
        found = whence(own, "made.png")
        (made,) = found.made
        assert (made.generation.task, made.generation.seed) == ("generate", 7)
        assert made.lineage.model.name == "second"
        assert [base.name for base in made.lineage.bases] == ["first"]
        assert made.lineage.data.place == str(place / "photos")
        assert made.lineage.run.about["facts"]["steps"] == 2
        assert made.generation.user == own.users.local().name
        (touched,) = whence(own, "photos/03.png").touched
        assert {model.name for model in touched.models} == {"first", "second"}
        assert touched.num_answers == 2
        moved = place / "elsewhere.png"
        moved.write_bytes((place / "photos" / "05.png").read_bytes())
        assert whence(own, moved).touched[0].held.item == "05.png"
    told = said(capsys, "whence", "made.png")
    assert "made by second: generate, seed 7" in told
    assert "which began with" in told
    told = said(capsys, "whence", "photos/03.png")
    assert f"train second anew without it, or delete it: it lies in {place}/second" in told
    assert "answers: 1" in said(capsys, "whence", "first")
    assert json.loads(said(capsys, "whence", "photos/03.png", "--json"))["removal"]
    (told,) = json.loads(said(capsys, "whence", "made.png", "--json"))["made"]
    assert told["generation"]["files"] == [str(place / "made.png")]


def test_a_file_that_was_changed_is_known_by_its_words_and_its_looks(place, capsys):
    codec = Data.from_tensors(np.zeros((8, 32, 32, 3), np.uint8)).codec
    rows = np.arange(32, dtype=np.float32)
    shown = 127 + 120 * np.sin(rows[:, None] / 3 + np.cos(rows / 5) * 4)
    pixels = torch.from_numpy(shown / 127.5 - 1).float().expand(1, 3, 32, 32)
    made = Result(pixels, codec=codec, made_by="toy, generate, seed 0").save("shown.png")
    made.write_bytes(made.read_bytes() + b"\0")
    told = said(capsys, "whence", "shown.png")
    assert "the file itself says: generator: toy, generate, seed 0" in told
    with Pillow.open("shown.png") as picture:
        Pillow.fromarray(np.asarray(picture)).save("bare.jpg", quality=90)  # without the words
    told = said(capsys, "whence", "bare.jpg")
    assert "it looks like what was generated here: toy, generate" in told
    assert "nothing is known of it here" in said(capsys, "whence", "key_file")


def test_the_verdict_of_a_model_goes_with_what_it_makes(place):
    with records.open() as own:
        own.models.evaluated("first", {"copying": {"verdict": "suspicious"}}, passed=False)
        own.models.evaluated("first", {"copying": {"verdict": "no sign of copying"}}, passed=True)
        first, second = own.models.evaluations(own.models.get("first").id)
        assert (first.passed, second.verdict) == (True, "suspicious")
        gate = {"file": "gate.toml", "demands": {}, "missed": ["frechet_ratio: 9"]}
        evaluated(own, Bundle.open("first"), {"scores": {}}, gate)
        (last, *_) = own.models.evaluations(second.model_id)
        assert (last.passed, last.record["gate"]) == (False, gate)
        with own.database.write() as session:
            session.delete(session.get(Evaluation, last.id))
        uid = own.generations.start(model="first", task="embed", model_hash=hash_of("first"))
        own.generations.finish(uid)
        assert own.generations.get(uid).verdict == "no sign of copying"
        with own.database.write() as session:  # one judgement cannot be put in another's place
            rows = list(session.scalars(select(Evaluation).order_by(Evaluation.id)))
            kept = rows[0].record
            rows[0].record = rows[1].record
        with pytest.raises(RecordsError, match="was changed"):
            own.models.evaluations(rows[0].model_id)
        with own.database.write() as session:
            session.get(Evaluation, rows[0].id).record = kept


def test_verbs_about_records(place, capsys):
    told = said(capsys, "records", "search", "--task", "generate", "--json")
    uid = json.loads(told)[-1]["id"]
    said(capsys, "records", "rate", uid, "5", "--why", "lovely boots")
    assert uid in said(capsys, "records", "search", "boots", "--rated", ">=4", "--since", "1d")
    assert uid not in said(capsys, "records", "search", "boots", "--rated", "<=4")
    assert json.loads(said(capsys, "records", "show", uid))["annotations"][0]["value"] == 5
    assert "annotate, read" in said(capsys, "users", "add", "ann", "--role", "annotator")
    assert "ann" in said(capsys, "users", "list")
    word = said(capsys, "keys", "new", "ci", "--role", "read,train", "--expires", "30d").strip()
    with records.open() as own:
        assert own.keys.authenticate(word).actions == {"read", "train"}
    said(capsys, "keys", "revoke", "ci")
    assert "revoked" in said(capsys, "keys", "list")
    assert "checked" in said(capsys, "records", "backup", "--out", "kept.backup")
    assert "90 days" in said(capsys, "records", "keep", "generations", "90d")
    assert "generations: 0" in said(capsys, "records", "keep", "--now")
    said(capsys, "records", "rotate")
    assert "0 generations" in said(capsys, "records", "erase", "ann", "--yes")
    assert "users.erase" in said(capsys, "records", "audit")
    assert "nothing is wrong" in said(capsys, "records", "verify")
    assert "kept as" in said(capsys, "records", "model", "first", "--keep")
    with records.open() as own:
        assert (own.models.restore("first", place / "back") / "config.json").is_file()
    for wrong in (("records", "search", "--rated", "good"), ("keys", "new", "x", "--role", "king")):
        with pytest.raises(SystemExit) as end:
            main(list(wrong))
        assert end.value.code == 1
        assert "expected:" in capsys.readouterr().err


def test_answers_become_data_to_learn_from(tmp_path):
    with records.open(tmp_path / "own.db", key=tmp_path / "own.key") as own:
        uids = []
        for number in range(6):
            uid = own.generations.start(
                [Message.of("system", "Be brief."), Message.of("user", f"What of {number // 2}?")],
                model="bard", task="chat",
            )  # fmt: skip
            own.generations.finish(uid, f"Answer {number}.")
            own.annotations.add(uid, value=4 + number % 2)
            uids.append(uid)
        chats = make_dataset(own, tmp_path / "chats", filters=Filters(at_least=5))
        rows = items(chats.folder)
        answers = [row["messages"][-1]["content"] for row in rows]
        assert answers == ["Answer 1.", "Answer 3.", "Answer 5."]
        assert [m["role"] for m in rows[0]["messages"]] == ["system", "user", "assistant"]
        assert (chats.num, chats.dataset.modality) == (3, "chat")
        origin = json.loads((chats.folder / "origin.json").read_text())
        assert set(origin["generations"]) == set(uids[1::2])
        pairs = make_dataset(own, tmp_path / "pairs", form="preference")
        rows = items(pairs.folder)
        assert rows[0]["chosen"][0]["content"] == "Answer 1."
        assert rows[0]["rejected"][0]["content"] == "Answer 0."
        assert pairs.num == 3
        # Votes are compared within their pair alone, though all are of one prompt.
        for number, won in enumerate((1.0, 0.0, 0.5)):
            for value in (won, 1 - won):
                uid = own.generations.start("Which?", model="bard", task="complete")
                own.generations.finish(uid, f"Pair {number}, {value}.")
                own.annotations.add(uid, "vote", value, label=f"a1.{number}")
        voted = Filters(annotation="vote")
        pairs = make_dataset(own, tmp_path / "voted", filters=voted, form="preference")
        said = [(row["chosen"][0]["content"], row["rejected"][0]["content"])
                for row in items(pairs.folder)]  # fmt: skip
        assert said == [(f"Pair {i}, 1.0.", f"Pair {i}, 0.0.") for i in (0, 1)]
        rated = make_dataset(own, tmp_path / "rated", "answer", form="rated")
        assert rated.num == 6
        with pytest.raises(RecordsError, match="there are too few answers"):
            make_dataset(own, tmp_path / "none", filters=Filters(at_least=9))
        # What a dataset was made of is kept as long as what was rated.
        own.keeping.set("generations", 0.0)
        assert own.keeping.apply() == {"generations": 0}


def test_nothing_is_recorded_where_nobody_keeps_records(tmp_path, monkeypatch):
    from morphogen.records.recording import are_kept, recording

    monkeypatch.delenv("MORPHOGEN_RECORDS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert not are_kept()
    with recording() as none:
        assert none is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MORPHOGEN_RECORDS", str(tmp_path / "own.db"))
    monkeypatch.setenv("MORPHOGEN_KEY_FILE", str(tmp_path / "own.key"))
    Path(tmp_path / "own.db").write_bytes(b"no database" * 1000)
    with pytest.warns(UserWarning, match="is damaged"), recording() as none:
        assert none is None  # the verb goes on


def test_what_is_drawn_is_signed_with_the_id_of_its_record(place, capsys, monkeypatch):
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(place / "signing.json"))
    verb("credentials", "init", "--name", "Ann")
    verb("sample", "second", "-n", "2", "--seed", "9", "--out", "signed", "--watermark")
    verb("task", "reconstruct", "second", "signed/00000.png", "--out", "again-signed.png")
    told = said(capsys, "whence", "signed/00000.png", "--json")
    (credential,) = json.loads(told)["credentials"]
    assert credential["is_valid"]
    assert credential["known"] == "this installation (Ann)"
    (made,) = json.loads(told)["made"]
    assert credential["says"]["generation"] == made["generation"]["id"]
    assert credential["says"]["model_hash"] == hash_of("second")
    assert json.loads(told)["watermark"]["chance"] <= 1
    told = said(capsys, "whence", "again-signed.png")
    assert "made from: 00000.png" in told


def test_what_is_done_with_data_is_told_and_in_the_plan_of_removal(tmp_path, monkeypatch, capsys):
    """An item through copies, versions, divisions, a comparison and models made from answers."""
    for name in ("RECORDS", "KEY_FILE", "CACHE"):
        monkeypatch.setenv(f"MORPHOGEN_{name}", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(40):
        pixels = draw.integers(0, 255, (8, 8), dtype=np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / "photos" / f"{number:02d}.png")
    (tmp_path / "photos" / "twin.png").write_bytes((tmp_path / "photos" / "03.png").read_bytes())
    verb("records", "init")
    verb("data", "snapshot", "photos")
    verb("data", "dedupe", "photos", "--move-to", "copies")
    verb("data", "split", "photos")
    asked = ("--family", "rbm", "--budget", "2steps", "--seeds", "1")
    verb("compare", "photos", *asked, "--num", "8", "--out", "both")
    verb("compare", "photos", *asked, "--num", "8", "--out", "both")  # nothing is told twice
    verb("train", "photos", "--family", "autoencoder", "--out", "alone", *QUICK)
    verb("export", "alone", "--to", "small", "--format", "int8")
    with records.open() as own:
        runs, models = own.runs.all(), own.models.all()
        compared = {model.name for model in models if "both" in model.place}
        assert compared
        assert len(runs) == len(models) == len(compared) + 1
        assert all(run.dataset_id == runs[0].dataset_id for run in runs)
        assert all(own.models.evaluations(m.id) for m in models if m.name in compared)
        verbs = [deed.verb for deed in reversed(own.deeds.all())]
        assert verbs == ["snapshot", "dedupe", "split", "compare", "compare", "export"]
        found = whence(own, "photos/03.png")
        (touched,) = found.touched
        assert {model.name for model in touched.models} >= {"alone", *compared}
        steps = found.removal()
    plan = "\n".join(steps)
    assert steps[0] == f"take 03.png out of {tmp_path / 'photos'}"
    assert f"delete the versions in {tmp_path / '.morphogen'}, which hold it" in plan
    assert "take the line of 03.png out of" in plan
    assert f"delete the comparison in {tmp_path / 'both'}, with its" in plan
    assert f"train alone anew without it, or delete it: it lies in {tmp_path / 'alone'}" in plan
    assert f"delete {tmp_path / 'small'}, which was exported from {tmp_path / 'alone'}" in plan
    assert "copies" not in plan  # it is not the twin that was moved there
    told = said(capsys, "whence", "photos/03.png")
    assert "its data went through snapshot" in told
    assert all(step in told for step in steps)


def test_what_was_learned_from_answers_is_in_the_plan(tmp_path):
    """An item, a model, its answers, a dataset of them, and the model that learned that."""
    with records.open(tmp_path / "own.db", key=tmp_path / "own.key") as own:
        item = tmp_path / "first" / "a.txt"
        item.parent.mkdir()
        item.write_text("a zebra")
        with own.database.write() as session:
            for name in ("first", "answers"):
                digest = f"digest of {name}"
                items = {"train": [["a.txt", ""]] if name == "first" else [], "test": []}
                place = {"place": str(tmp_path / name)}
                session.add(
                    Dataset(
                        name=name, digest=digest, modality="text", num_train=1, num_test=0,
                        about=own.seals.seal_json(session, None, place, f"dataset {digest}"),
                        items=own.seals.seal(
                            session, None, zlib.compress(json.dumps(items).encode()),
                            f"items {digest}",
                        ),
                    )
                )  # fmt: skip
            session.flush()
            for number, name in ((1, "teacher"), (2, "pupil")):
                session.add(Run(dataset_id=number, family="x", state="finished", about=b""))
                session.flush()
                about = own.seals.seal_json(
                    session, None, {"place": str(tmp_path / name)}, f"model {name}"
                )
                session.add(
                    Model(hash=name, name=name, family="x", modality="text", run_id=number,
                          about=about)
                )  # fmt: skip
            for run in session.scalars(select(Run)):
                run.about = own.seals.seal_json(session, None, {}, f"run {run.id}")
        uids = []
        for model in ("teacher", "pupil", "pupil"):
            uids.append(own.generations.start("?", model=model, task="chat", model_hash=model))
            own.generations.finish(uids[-1], "!")
        with own.database.write() as session:
            own.database.insert_new(session, DatasetPair, dataset_id=2, generation_id=1)
        (touched,) = whence(own, item).touched
        assert [model.name for model in touched.models] == ["teacher", "pupil"]
        assert [dataset.name for dataset in touched.datasets] == ["answers"]
        assert touched.answers == tuple(reversed(uids))
        assert touched.num_answers == 3
        plan = "\n".join(whence(own, item).removal())
        assert f"make the dataset {tmp_path / 'answers'} anew" in plan
        assert "train pupil anew" in plan
        assert "records search --model pupil; morphogen records search --model teacher" in plan
