"""What keys may ask for in a day or a month: counted exactly, over restarts, whatever the clock."""

from __future__ import annotations

import time
from calendar import timegm
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("alembic")
pytest.importorskip("cryptography")

from morphogen.cli.app import main
from morphogen.core.errors import AccessError, QuotaError, RecipeError
from morphogen.records.quotas import Quota

NOON = float(timegm((2026, 1, 31, 12, 0, 0)))
DAY = 86400.0


@pytest.fixture
def clock(monkeypatch):
    """Sets the clock."""

    def set_(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: seconds)

    set_(NOON)
    return set_


def key_with(own, *quotas):
    key, word = own.keys.new(f"key {len(own.keys.all())}", "generate")
    own.quotas.set(key.id, [Quota.parse(each) for each in quotas])
    return key.id, word


def ask(own, key, tokens=0, cut=False):
    uid = own.generations.start("x", model="bard", task="chat", key=key)
    if cut:
        own.generations.cut(uid, "cancelled", prompt_tokens=tokens, completion_tokens=0)
    else:
        own.generations.finish(uid, "y", usage={"prompt_tokens": 1, "completion_tokens": tokens})


def test_quotas_are_read_as_they_are_written():
    assert Quota.parse("2,000_000 tokens / month") == Quota("tokens", "month", 2_000_000)
    assert str(Quota("generations", "day", 5000)) == "5,000 generations/day"
    for wrong in ("5", "5 pictures/day", "5 tokens/hour", "-5 tokens/day", "tokens/day"):
        with pytest.raises(RecipeError, match="no quota"):
            Quota.parse(wrong)


def test_what_is_used_up_is_refused_until_the_day_is_over(new_records, clock):
    own = new_records()
    key, word = key_with(own, "2 generations/day", "100 tokens/month")
    other, _ = key_with(own)
    ask(own, key, 10)
    own.close()
    own = new_records()  # a restart
    ask(own, key, 20)
    with pytest.raises(QuotaError, match="2 generations/day") as caught:
        ask(own, key)
    assert caught.value.standing.reset == DAY / 2
    assert own.search.count() == 2  # what was refused did not begin
    for _ in range(3):
        ask(own, other, 1000)  # another key is not bounded by it
    told = {each.quota.what: (each.spent, each.left) for each in own.quotas.standing(key)}
    assert told == {"generations": (2, 0), "tokens": (32, 68)}
    clock(NOON - DAY)  # a clock that is set back: the month's tokens are those that they were
    assert {each.spent for each in own.quotas.standing(key)} == {0, 32}
    clock(NOON)
    with pytest.raises(QuotaError):
        ask(own, key)
    clock(NOON + DAY)  # the next day, and the next month
    assert [each.spent for each in own.quotas.standing(key)] == [0, 0]
    ask(own, key, 99, cut=True)  # what is cut took what it took
    ask(own, key, 5)
    own.quotas.set(key, [Quota.parse("100 tokens/month")])
    with pytest.raises(QuotaError, match="100 tokens/month") as caught:
        ask(own, key)
    assert caught.value.standing.reset == 27.5 * DAY  # 28 days of February, from noon of the first
    own.quotas.set(key, [])
    ask(own, key)
    assert own.keys.authenticate(word).key_id == key


def test_two_servers_let_through_no_more_than_there_is(new_records):
    servers = [new_records() for _ in range(2)]
    key, _ = key_with(servers[0], "7 generations/day")

    def asked(number: int) -> bool:
        try:
            ask(servers[number % 2], key, 1)
        except QuotaError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(asked, range(20))) == 7
    (standing,) = servers[1].quotas.standing(key)
    assert (standing.spent, standing.left) == (7, 0)


def test_the_quotas_of_who_is_erased_go_with_the_key(new_records):
    own = new_records()
    ann = own.users.add("ann", "maker")
    key, _ = own.keys.new("hers", "generate", user=ann.id)
    own.quotas.set(key.id, [Quota.parse("5 tokens/day")])
    ask(own, key.id)
    own.keeping.erase(ann.id)
    assert own.quotas.standing(key.id) == []


def test_keys_and_sessions_when_the_clock_jumps(new_records, clock):
    own = new_records()
    me = own.users.local()
    _, word = own.keys.new("ci", "read", expires=DAY)
    session = own.sign_ins.new(me, seconds=DAY)
    clock(NOON + 2 * DAY)
    with pytest.raises(AccessError, match="expired"):
        own.keys.authenticate(word)
    with pytest.raises(AccessError, match="over"):
        own.sign_ins.authenticate(session)
    clock(NOON - 30 * DAY)  # set back: a session does not last longer for it
    with pytest.raises(AccessError, match="over"):
        own.sign_ins.authenticate(session)
    own.audit.note("tested")
    uid = own.generations.start("x", model="bard", task="chat")
    clock(NOON - 31 * DAY)
    own.generations.finish(uid, "y")
    assert own.audit.verify().is_whole
    assert own.generations.get(uid).state == "finished"


def test_the_verb(tmp_path, monkeypatch, capsys):
    for name in ("RECORDS", "KEY_FILE"):
        monkeypatch.setenv(f"MORPHOGEN_{name}", str(tmp_path / name))

    def said(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["keys", *arguments])
        assert not end.value.code
        return capsys.readouterr().out

    assert said("new", "ci", "--role", "generate", "--quota", "5 generations/day").startswith("mg-")
    assert "5 generations/day" in said("quota", "ci")
    assert "9 tokens/month" in said("quota", "ci", "9 tokens/month")
    assert said("quota", "ci", "--lift").strip() == "no quota"
