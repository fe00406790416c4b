"""The records: the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

from sqlalchemy import delete, insert, select, update

from morphogen.core.errors import AccessError, RecipeError, RecordsError
from morphogen.records.migrating import difference
from morphogen.records.prompts import Fragment, Message
from morphogen.records.roles import ACTIONS, ROLES, actions_of
from morphogen.records.searching import Filters
from morphogen.records.tables import AuditEntry, Base, User
from morphogen.records.words import asked, holds, terms, words


def test_the_schema_is_what_the_tables_say(new_records):
    assert difference(new_records().database) == []


def test_people_come_in_by_keys_passwords_and_sessions(new_records):
    own = new_records()
    ann = own.users.add("Ann Álvarez", "annotator", password="a long password")
    assert own.users.get("Ann Álvarez") == ann
    assert own.users.sign_in("Ann Álvarez", "a long password") == ann
    for name, password in (("Ann Álvarez", "another one"), ("Bob", "a long password")):
        with pytest.raises(AccessError, match="name or password is wrong"):
            own.users.sign_in(name, password)
    _, word = own.keys.new("ci", "generate", user=ann.id)
    access = own.keys.authenticate(word)
    assert access.actions == set()  # what the key may and its user may not
    with pytest.raises(AccessError, match="ci may not generate"):
        access.check("generate")
    own.users.set_role(ann.id, "trainer")
    own.keys.authenticate(word).check("generate")
    with pytest.raises(RecordsError, match="there is a key 'ci' already"):
        own.keys.new("ci", "read")
    session = own.sign_ins.new(ann)
    assert own.sign_ins.authenticate(session).user.id == ann.id
    again = new_records()
    assert again.keys.authenticate(word).user.name == "Ann Álvarez"
    again.keys.revoke("ci")
    with pytest.raises(AccessError, match="'ci' is revoked"):
        own.keys.authenticate(word)
    own.sign_ins.end(session)
    with pytest.raises(AccessError, match="the session is over"):
        own.sign_ins.authenticate(session)
    _, short = own.keys.new("short", "read", user=ann.id, expires=0.0)
    with pytest.raises(AccessError, match="'short' is expired"):
        own.keys.authenticate(short)
    with pytest.raises(AccessError, match="not known"):
        own.keys.authenticate(word[:-1] + ("A" if word[-1] != "A" else "B"))
    _, last = own.keys.new("last", "read", user=ann.id)
    own.users.disable(ann.id)
    with pytest.raises(AccessError, match="of a user who is disabled"):
        own.keys.authenticate(last)


def test_roles_are_sets_of_actions():
    assert actions_of("annotator") == {"read", "annotate"}
    assert actions_of("generate") == {"generate"}
    assert actions_of("read, train") == {"read", "train"}
    assert all(actions_of(name) <= set(ACTIONS) for name in ROLES)
    with pytest.raises(RecipeError, match="Did you mean 'annotator'"):
        actions_of("anotator")


def test_the_audit_log_shows_every_tampering(new_records):
    own = new_records()
    for number in range(5):
        own.audit.note("models.remove", f"model {number}", user=1, why="old")
    assert own.audit.verify().is_whole
    assert [line.subject for line in own.audit.lines(limit=2)] == ["model 4", "model 3"]
    log = AuditEntry.__table__
    with own.database.read() as session:
        rows = [dict(row) for row in session.execute(select(log)).mappings()]
    changes = {
        "line 2 was changed": update(log).where(log.c.id == 2).values(subject="model 9"),
        "lines 3 to 3 were taken out": delete(log).where(log.c.id == 3),
        "the log ends at line 4": delete(log).where(log.c.id == 5),
        "line 4 was changed": update(log).where(log.c.id == 4).values(chain=rows[0]["chain"]),
    }
    for message, change in changes.items():
        with own.database.write() as session:
            session.execute(change)
        assert any(message in each for each in own.audit.verify().broken)
        with own.database.write() as session:
            session.execute(delete(log))
            session.execute(insert(log), rows)
        assert own.audit.verify().is_whole


def test_a_conversation_is_stored_once_and_branches(new_records):
    own = new_records()
    ann = own.users.add("ann", "maker")
    document = Fragment(b"\x89PNG", "image/png")
    first = [
        Message.of("system", "Be short."),
        Message.of("user", "What is this? ", document),
    ]
    node = own.prompts.put(first, user=ann.id)
    assert own.prompts.put(first, user=ann.id) == node
    one = own.prompts.put([Message.of("assistant", "A boot.")], user=ann.id, parent=node)
    two = own.prompts.put([Message.of("assistant", "A shoe.")], user=ann.id, parent=node)
    assert [m.text for m in own.prompts.children(node)] == ["A boot.", "A shoe."]
    longer = own.prompts.put(
        [*first, Message.of("assistant", "A boot."), Message.of("user", "Red?")], user=ann.id
    )
    said = own.prompts.path(longer)
    assert [m.role for m in said] == ["system", "user", "assistant", "user"]
    assert said[1].fragments == first[1].fragments
    assert said[2].id == one != two
    assert said[1].text == "What is this? [image/png]"
    bob = own.users.add("bob", "maker")
    assert own.prompts.put(first, user=bob.id) != node  # nobody learns what others asked


def test_generations_are_found_by_words_people_times_and_ratings(new_records):
    own = new_records()
    ann, bob = own.users.add("ann", "maker"), own.users.add("bob", "maker")
    began = time.time()
    told = {
        "Red Boots for winter": (ann, "Größe 42, in leather"),
        "a boot of rubber": (bob, "green"),
        "红色的靴子": (ann, "好"),
    }
    uids = []
    for prompt, (user, answer) in told.items():
        uid = own.generations.start(
            prompt, model="bard", task="complete", user=user.id, seed=3, parameters={"top_p": 0.9}
        )
        own.generations.finish(uid, answer, usage={"tokens": 4}, reason="length")
        uids.append(uid)

    def found(text: str = "", **filters: object) -> list[int]:
        return [uids.index(each.id) for each in own.search(text, Filters(**filters))]

    assert found() == [2, 1, 0]
    assert found("BOOTS") == [0]
    assert found("boot*") == [1, 0]
    assert found("grosse leather") == [0]
    assert found("leather rubber") == []
    assert found("靴子") == [2]
    assert found(user=ann.id) == [2, 0]
    assert found("boot*", user=bob.id) == [1]
    assert found(since=began, until=time.time(), task="complete", model="bard") == [2, 1, 0]
    assert found(since=time.time() + 1) == []
    own.annotations.add(uids[0], value=2, user=bob.id, explanation="too dark")
    own.annotations.add(uids[0], value=5, user=bob.id, explanation="after all lovely")
    own.annotations.add(uids[1], "style", label="plain", kind="model")
    assert found(at_least=4) == [0]
    assert found(at_most=4) == []
    assert found(label="plain") == [1]
    assert found("lovely") == [0]
    (page,) = own.search(limit=1)
    assert [each.number for each in own.search(before=page.number, limit=1)] == [page.number - 1]
    assert own.search.count("boot*") == 2
    whole = own.generations.get(uids[0])
    assert (whole.reason, whole.seed, whole.parameters) == ("length", 3, {"top_p": 0.9})
    assert [each.explanation for each in whole.annotations] == ["after all lovely"]


def test_what_was_not_finished_is_cut(new_records, tmp_path):
    own = new_records()
    uid = own.generations.start("x", model="bard", task="complete")
    assert own.generations.cut_abandoned() == 0  # this process is at work on it
    file = tmp_path / "x.png"
    file.write_bytes(b"x")
    own.generations.cut(uid, "cancelled", "half an ans")
    kept = own.generations.get(uid)
    assert (kept.state, kept.reason, kept.answer.text) == ("cut", "cancelled", "half an ans")
    with pytest.raises(RecordsError, match="is cut already"):
        own.generations.finish(uid, "x")
    with pytest.raises(RecordsError, match="no such generation"):
        own.generations.get("0")


def test_templates_have_versions_and_labels_that_move(new_records):
    own = new_records()
    own.templates.save("greet", "Hello {name}", labels=("production",))
    own.templates.save("greet", "Hi {name}, {what}?", note="warmer", settings={"top_k": 5})
    assert own.templates.get("greet").fill(name="{what}", what="tea") == "Hi {what}, tea?"
    assert own.templates.get("greet@production").version == 1
    own.templates.label("greet:2", "production")
    assert own.templates.get("greet@production").settings == {"top_k": 5}
    assert own.templates.get("greet:1").labels == ()
    assert [each.version for each in own.templates.all("greet")] == [2, 1]
    with pytest.raises(RecordsError, match="Did you mean 'greet'"):
        own.templates.get("greeet")
    with pytest.raises(RecordsError, match="takes other values"):
        own.templates.get("greet").fill(name="Ann")


def test_words_are_folded_and_of_every_script():
    assert words("The Boots, größer; the BOOTS!") == ["the", "boots", "grosser"]
    assert words("naïve 42x") == ["naive", "42x"]
    assert words("ok红色的") == ["ok", "红色", "色的"]
    assert terms("boots on") == ["boots", "on", "boot*"]
    assert asked("boot* re* Größe") == ["boot*", "grosse"]
    assert holds("Red boots", "boo* red")
    assert not holds("Red boots", "oots")


def test_every_table_is_cleared_of_its_people_or_says_why():
    """A new table that names people has to be thought of where they are erased."""
    people = {
        table.name
        for table in Base.metadata.tables.values()
        if any(key.target_fullname == "users.id" for key in table.foreign_keys)
    }
    assert people == {
        "annotations", "api_keys", "data_keys", "deeds", "fragments", "generations", "made",
        "prompts", "runs", "sign_ins", "templates",
    }  # fmt: skip
    assert User.__tablename__ == "users"


def test_many_are_written_together_or_not_at_all(new_records):
    own = new_records()

    def interrupted():
        with own.database.together():
            uid = own.generations.start("boots", model="bard", task="complete")
            assert own.generations.get(uid).state == "started"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert own.search.count() == 0
    with own.database.together():
        for _ in range(3):
            own.generations.finish(own.generations.start("x", model="bard", task="complete"), "y")
    assert new_records().search.count(filters=Filters(state="finished")) == 3
