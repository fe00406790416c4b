"""A chat that is spoken: real models hear and speak, by the API and in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

import morphogen as mg
from morphogen.core.codec import Item
from morphogen.core.errors import DataError
from morphogen.core.following import GAP
from morphogen.modalities.text import Text
from morphogen.provenance.identity import Identity
from morphogen.provenance.signing import provenance_of, read
from morphogen.records import open as records_at
from morphogen.serve.catalogue import Catalogue
from morphogen.serve.parts import Way, way
from morphogen.serve.settings import Settings
from morphogen.serve.voices import Hearing, Speaking
from morphogen.serve.worker.joining import PAUSE, join, joined
from morphogen.serve.worker.words import MARKS, WORD, by_length, by_name
from morphogen.systems.agents.running import Untrusted
from morphogen.systems.agents.tool import Tool
from morphogen.systems.agents.tools.models import NOWHERE, bundle_tools
from small_models import answering
from small_voices import (
    RATE,
    of_parts,
    of_pictures,
    spoken,
    that_hears,
    that_speaks,
    that_tells_apart,
)
from test_serve import Running, pictures
from test_studio import token_of

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
NAMES = ["3", "7", "turn", "turn left", "good_bye"]
WORDS = ["3", "7", "37", "turn", "left", "Turn", "good-bye", "ok.", "*7*", "don't", "🙂", "4"]
READER = Text(tokenizer="byte", form="documents").fit([Item("turn left")])
TEXTS = st.lists(st.sampled_from(WORDS)).map(" ".join)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    answering("3 then. 7 boats", length=512).save(folder / "talker")
    that_hears().save(folder / "ears")
    that_speaks().save(folder / "mouth")
    that_speaks(of_texts=True).save(folder / "reader")
    that_tells_apart().save(folder / "judge")
    of_parts().save(folder / "both")
    of_pictures().save(folder / "squares")
    pictures().save(folder / "digits")
    return folder


@pytest.fixture(scope="module")
def running(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("records") / "records.db"
    told = Settings(models=models, port=0, threads=1, rate=None)
    with records_at(place, key=bytes(32)) as records, Running(told, records) as running:
        yield running


def as_file(place: Path, word: str | None, rate: int = RATE) -> Path:
    """A word between silences, or silence alone, as a microphone hears it."""
    import soxr

    said = np.zeros(RATE // 5) if word is None else spoken(word).samples[0]
    still = np.zeros(RATE // 5)
    samples = soxr.resample(np.concatenate([still, said, still]), RATE, rate)
    with wave.open(str(place), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return place


def num_frames(sound: bytes) -> int:
    with wave.open(io.BytesIO(sound)) as file:
        return file.getnframes()


# -- which models hear and speak, before they are opened -----------------------------------------


def test_bundles_tell_what_they_hear_and_say(models: Path) -> None:
    known = Catalogue(models).entries()
    assert known["ears"].hears == Hearing("sound", pytest.approx(0.5, abs=0.05))
    assert known["mouth"].speaks == Speaking("label", ("3", "7"), "speaker", ("ann", "bob"))
    assert known["reader"].speaks == Speaking("caption")
    own, back = Way("sound", "word"), Way("word", "sound", is_back=True)
    assert known["both"].hears == Hearing("sound", pytest.approx(0.6, abs=0.05), own)
    assert known["both"].speaks == Speaking("word", parts=back)
    others = {name for name, each in known.items() if each.hears is each.speaks is None}
    assert others == {"talker", "judge", "digits", "squares"}


def test_a_part_is_drawn_from_one_before_it_unless_the_model_fills_both_ways() -> None:
    kinds = {"first": "image", "sound": "sound", "said": "text", "then": "image"}
    assert way(kinds, {"text"}, {"image"}) == Way("said", "then")
    assert way(kinds, {"image"}, {"image"}) == Way("first", "then")
    assert way(kinds, {"text"}, {"table"}) is None
    speaks = way(kinds, {"text"}, {"sound"})
    assert speaks == Way("said", "sound", is_back=True)
    fills: dict[str, Any] = {"tasks": {"fill": None}}
    assert not speaks.is_open_to(fills)
    assert speaks.is_open_to({**fills, "fills_both_ways": True})
    assert Way("said", "then").is_open_to(fills)
    assert not Way("said", "then").is_open_to({"tasks": {"fill": "it fills nothing"}})


def test_a_recurrent_network_learns_what_is_said_in_a_sound_as_fast() -> None:
    hears = that_hears("rnn")
    for word in "37":
        heard = hears.sample(2, cond={"sound": spoken(word, 0.35)}, temperature=0)
        assert list(heard.items) == [word] * 2


# -- a text as pieces ----------------------------------------------------------------------------


def test_a_model_of_names_says_the_longest_that_fits_and_numbers_by_digits() -> None:
    told = list(by_name("**Turn left**, then 37 times good bye!", NAMES))
    said = [(each["text"], each["say"]) for each in told]
    assert said == [
        ("Turn left", "turn left"), ("then", ""), ("3", "3"), ("7", "7"), ("times", ""),
        ("good bye", "good_bye"),
    ]  # fmt: skip
    assert [bool(each.get("why")) for each in told] == [not say for _, say in said]


def test_texts_are_said_as_they_were_learned_or_told_to_be_strange() -> None:
    codec = Text(tokenizer="byte", form="documents").fit([Item("seven"), Item("three two")])
    codec = Text.from_state(codec.state(), codec.tensors())
    told = list(by_length("Seven! Three boats... and two", codec))
    assert [(each["text"], each["say"]) for each in told] == [
        ("Seven!", "seven"), ("Three", "three"), ("boats...", ""), ("and", ""), ("two", "two"),
    ]  # fmt: skip
    assert told[2]["why"] == "it has learned nothing with a b"


@settings(deadline=None)
@given(TEXTS)
def test_no_word_of_a_text_is_lost(text: str) -> None:
    by_names = "".join(each["text"] for each in by_name(text, NAMES))
    words = "".join(WORD.findall(MARKS.sub(" ", text)))
    assert by_names.replace(" ", "") == words
    pieces = list(by_length(text, READER))
    assert " ".join(each["text"] for each in pieces).split() == MARKS.sub(" ", text).split()
    whole = (each["say"] for each in pieces)
    assert all(READER.decode(READER.encode(Item(said))) == said for said in whole)


def test_sounds_are_joined_with_pauses(tmp_path: Path) -> None:
    three, seven = (as_file(tmp_path / f"{word}.wav", word).read_bytes() for word in "37")
    whole = joined([three, seven])
    assert num_frames(whole) == num_frames(three) + int(PAUSE * RATE) + num_frames(seven)


def test_what_is_joined_has_a_credential_and_those_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    key = tmp_path / "signing.json"
    Identity.new("Ann, at home", key)
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(key))
    bundle = that_speaks()
    bundle.provenance = provenance_of(watermark=True)
    parts = [tmp_path / f"{word}.wav" for word in "37"]
    for part, word in zip(parts, "37", strict=True):
        bundle.sample(1, cond={"label": word}).save(part)
    sounds = [base64.b64encode(part.read_bytes()).decode() for part in parts]
    made, done = join(bundle, 1, {"sounds": sounds, "seed": 5})
    assert "done" in done
    whole = tmp_path / "whole.wav"
    whole.write_bytes(base64.b64decode(made["sound"]))
    assert num_frames(whole.read_bytes()) > 2 * num_frames(parts[0].read_bytes())
    (found,) = read(whole, Identity.needed())
    assert found.is_valid
    assert found.says["seed"] == "5"
    assert len(found.ingredients) == 2
    assert all("C2PA valid by 'Ann, at home'" in each for each in found.ingredients)
    several = tmp_path / "several.wav"
    bundle.sample(2, cond={"label": "3"}).save(several)
    assert read(several, Identity.needed())[0].is_valid
    for file in (whole, several):
        assert bundle.codec.watermark_chance(file, Identity.needed().watermark) < 1e-6, file


def test_parts_that_are_drawn_are_files_with_marks_and_given_ones_stay_as_they_are(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    key = tmp_path / "signing.json"
    Identity.new("Ann, at home", key)
    monkeypatch.setenv("MORPHOGEN_SIGNING", str(key))
    bundle, me = mg.open(models / "both"), Identity.needed()
    mark = bytes(32)  # the same in each run: a short tone holds little
    signing = provenance_of(watermark=True)
    assert signing is not None
    bundle.provenance = replace(signing, watermark=mark)
    heard = Item({"sound": spoken("7", still=0.2), "word": GAP})
    filled = bundle.task("fill", bundle.codec.asked({"sound": None, "word": "3"}), heard, num=1)
    rows = filled.save(tmp_path / "made.jsonl")
    told = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [each["word"] for each in told] == ["3", "7"]
    drawn, own = (tmp_path / each["sound"] for each in told)
    assert filled.files == [rows, drawn, own]
    (found,) = read(drawn, me)
    assert found.is_valid
    assert found.says["generator"] == "masked both, fill, seed 0"
    assert not read(own, me)
    reader = bundle.codec.part_codecs["sound"].innermost
    assert reader.watermark_chance(drawn, mark) < 1e-3
    assert reader.watermark_chance(own, mark) > 0.01
    assert read(rows, me)[0].is_valid
    new = bundle.sample(2).save(tmp_path / "new")  # a folder
    assert new == tmp_path / "new" / "rows.jsonl"
    assert all(read(file, me) for file in new.parent.glob("*.wav"))
    with pytest.raises(DataError, match=r"(?s)not written in such a file.*\.jsonl"):
        filled.save(tmp_path / "made.wav")


def test_an_agent_is_given_parts_as_texts_and_files(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    as_file(tmp_path / "in" / "heard.wav", "7")
    folders = {"files": tmp_path / "in", "out": tmp_path / "out"}
    bundle = mg.open(models / "both")

    def called(tools: list[Tool], **arguments: Any) -> dict[str, Any]:
        (made,) = tools
        told = made.run(arguments)
        assert isinstance(told, Untrusted)  # words that a model drew
        return json.loads(told)

    fills = bundle_tools(bundle, "both", tasks=["fill"], **folders)
    assert "sound, word: texts, files by name" in json.dumps(fills[0].schema)
    asked = [{"sound": "heard.wav", "word": None}, {"sound": None, "word": "3"}]
    told = called(fills, inputs=asked, num=1)
    heard, said = told["items"]
    assert (heard["word"], said["word"]) == ("7", "3")
    for each in (heard, said):
        assert num_frames((tmp_path / "out" / each["sound"]).read_bytes()) > RATE // 2
    assert told["file"] == "both-fill-1.jsonl"
    again = called(bundle_tools(bundle, "both", tasks=["fill"], files=tmp_path / "out"),
                   inputs=[{"sound": said["sound"], "word": None}], num=1)  # fmt: skip
    assert again["items"] == [{"sound": NOWHERE, "word": "3"}]
    new = called(bundle_tools(bundle, "both", tasks=["generate"], **folders), num=2)
    assert all((tmp_path / "out" / each["sound"]).is_file() for each in new["items"])
    for wrong, why in (
        ({"sound": "../heard.wav", "word": None}, "no such file"),
        ({"picture": "heard.wav"}, "no training item has a part 'picture'"),
    ):
        with pytest.raises(DataError, match=why):
            fills[0].run({"inputs": [wrong], "num": 1})
    with pytest.raises(DataError, match="no folder of files"):
        bundle_tools(bundle, "both", tasks=["fill"])[0].run({"inputs": asked})


# -- the API -------------------------------------------------------------------------------------


def test_a_model_of_ones_own_writes_down_what_it_hears(running: Running, tmp_path: Path) -> None:
    hear = running.client.audio.transcriptions.create
    for word in "37":
        place = tmp_path / f"{word}.wav"
        as_file(place, word)
        assert hear(model="ears", file=place).text == word
        assert hear(model="both", file=place).text == word
    assert hear(model="ears", file=place, response_format="text") == "7\n"
    with pytest.raises(openai.BadRequestError, match="does not tell when"):
        hear(model="ears", file=place, response_format="srt")
    with pytest.raises(openai.BadRequestError, match="judge is none that hears"):
        hear(model="judge", file=place)


def test_any_part_of_an_item_is_drawn_given_the_others(running: Running, tmp_path: Path) -> None:
    heard = base64.b64encode(as_file(tmp_path / "7.wav", "7").read_bytes()).decode()
    sound = {"file": heard, "suffix": ".wav"}

    def fill(model: str, parts: dict[str, Any], **options: Any) -> httpx.Response:
        asked = {"model": model, "inputs": [{"parts": parts}], "seed": 1}
        asked["options"] = {"num": 2, **options}
        return httpx.post(f"{running.url}/v1/tasks/fill", json=asked, timeout=60)

    drawn = [each["parts"] for each in fill("both", {"sound": sound, "word": None}).json()["items"]]
    assert [each["word"] for each in drawn] == [{"text": "7"}] * 2
    said = fill("both", {"sound": None, "word": {"text": "3"}}).json()
    kept = running.serving.records.generations.get(said["morphogen"]["generation_id"])
    assert kept.answer.text == "3\n\n3"
    for each in said["items"]:
        assert each["parts"]["word"] == {"text": "3"}
        made = each["parts"]["sound"]
        assert (made["suffix"], made["media_type"]) == (".wav", "audio/x-wav")
        again = fill("both", {"sound": {name: made[name] for name in sound}, "word": None}).json()
        assert again["items"][0]["parts"]["word"] == {"text": "3"}  # it hears what it said
    for model, parts, why in (
        ("both", {"sound": sound, "picture": None}, "no training item has a part 'picture'"),
        ("both", {"sound": {"text": "7"}, "word": None}, "'sound' is given as a text"),
        ("both", {"sound": sound, "word": sound}, "'word' is given as a file"),
        ("digits", {"sound": sound}, "items of this model have no parts"),
        ("both", {"sound": sound, "word": {"text": "7"}}, "1 whole: input 0"),
    ):
        refused = fill(model, parts)
        assert refused.status_code == 400
        assert why in refused.text
    whole = {"sound": sound, "word": {"text": "3"}}
    for each in fill("both", whole, mask="random:0.9").json()["items"]:
        assert each["parts"].keys() == whole.keys()
    masked = fill("both", whole, mask="word", temperature=0).json()["items"]
    assert [each["parts"]["word"] for each in masked] == [{"text": "7"}] * 2


def test_texts_are_said_and_what_cannot_be_is_told(running: Running) -> None:
    say = running.client.audio.speech.create
    raw = running.client.audio.speech.with_raw_response.create
    first = raw(model="mouth", input="7", voice="ann")
    kept = running.serving.records.generations.get(first.headers["x-generation-id"])
    assert kept.parameters["cond"] == {"label": "7", "speaker": "ann"}
    seven = first.content
    assert seven == say(model="mouth", input="7", voice="ann").read()
    both = say(model="mouth", input="3, 7!", voice="ann").read()
    assert num_frames(both) == 2 * num_frames(seven) + int(PAUSE * RATE)
    assert num_frames(say(model="reader", input="seven three", voice="any").read()) > 0
    spoken_parts = [say(model="both", input=text, voice="any").read() for text in ("7", "7. 7.")]
    one, two = map(num_frames, spoken_parts)
    assert two == 2 * one + int(PAUSE * RATE)
    file = ("said.wav", spoken_parts[0])
    assert running.client.audio.transcriptions.create(model="both", file=file).text == "7"
    for asked, why in (
        ({"input": "7 boats"}, "mouth does not say 'boats'.*It says 3, 7"),
        ({"input": "..."}, "nothing to say"),
        ({"voice": "alloy"}, "no voice 'alloy': ann, bob, or any"),
        ({"model": "judge"}, "judge is none that speaks"),
        ({"speed": 2.0}, "no other speed"),
        ({"input": "7 " * 3000}, "4,096 at most"),
        ({"model": "reader", "input": "e" * 99}, "longer than what it reads"),
    ):
        with pytest.raises(openai.BadRequestError, match=why):
            say(**{"model": "mouth", "input": "7", "voice": "any", **asked})


def test_a_picture_is_drawn_beside_its_text(running: Running) -> None:
    draw = running.client.images.generate
    for colour, brightest in (("red", 0), ("blue", 2)):
        made = draw(model="squares", prompt=f"a {colour} square", n=2, extra_body={"seed": 1}).data
        for each in made:
            shown = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(each.b64_json))))
            assert shown.shape == (8, 8, 3)
            assert shown.mean((0, 1)).argmax() == brightest
    assert draw(model="squares", prompt="", extra_body={"seed": 1}).data  # with a text of its own
    with pytest.raises(openai.BadRequestError, match="both makes no pictures"):
        draw(model="both", prompt="7")
    given: Any = ("a.png", base64.b64decode(draw(model="squares", prompt="").data[0].b64_json))
    with pytest.raises(openai.BadRequestError) as refused:
        running.client.images.edit(model="squares", image=given, prompt="a red square")
    body = str(refused.value).partition("/v1/tasks/fill for ")[2]
    assert json.loads(body) == {"parts": {"caption": {"text": "a red square"}, "picture": None}}
    with pytest.raises(openai.BadRequestError, match="squares draws pictures whole"):
        running.client.images.create_variation(model="squares", image=given)


def test_parts_are_brought_and_drawn_in_the_studio(running: Running) -> None:
    with httpx.Client(base_url=running.url, follow_redirects=True, timeout=60) as client:
        form = client.get("/play/squares?task=fill&open=1").text
        assert 'name="part.caption"' in form
        assert 'accept="image/*"' in form
        told = {"task": "fill", "token": token_of(client), "part.caption": "a red square",
                "redraw.picture": "on", "num": "1", "seed": "1"}  # fmt: skip
        shown = client.post("/play/squares", data=told).text
        uid, page = re.search(r'src="(/views/(\w+))"', shown).group(2, 1)
        assert "a red square" in client.get(page).text
        assert "data:image/png" in client.get(page).text
        file = client.get(f"/files/{uid}/1", params={"part": "picture"})
        assert file.headers["content-disposition"].endswith(f"{uid}-1-picture.png")
        assert Pillow.open(io.BytesIO(file.content)).size == (8, 8)
        assert f"/files/{uid}/1?part=picture" in shown
        assert client.get(f"/files/{uid}/1", params={"part": "caption"}).status_code == 404
        kept = running.serving.records.generations.get(uid)
        assert [each.text for each in kept.prompt] == ["a red square"]
        like = {"task": "fill", "token": token_of(client), "like": uid, "item": "1", "num": "1"}
        anew = client.post("/play/squares", data={**like, "redraw.caption": "on"})
        assert "<iframe" in anew.text
        assert f"{uid}" in anew.text  # what came before is shown by its picture
        assert '<li><a href="/play/squares?' in anew.text
        assert "data:image/png" in anew.text
        page = client.get("/play/squares", params=like).text
        assert 'name="mask" value="auto"' in page
        last = client.post("/play/squares", data={**like, "mask": "auto"}).text  # the picture
        given = running.serving.records.generations.get(uid_of(last)).prompt
        assert [each.text for each in given] == ["a red square"]
        both = {**told, "drawn": ""}
        wrong = client.post("/play/squares", data=both, files={"files": ("a.jsonl", b"{}")})
        assert "not both" in wrong.text


def uid_of(page: str) -> str:
    found = re.search(r'src="/views/(\w+)"', page)
    assert found
    return found[1]


# -- in a browser --------------------------------------------------------------------------------

COUNT = """
window.played = 0;
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) {
  if (!(this.context instanceof OfflineAudioContext)) window.played += 1;
  return start.apply(this, given);
};
"""
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def browsing(browsers: Any, *flags: str) -> Any:
    return browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])


def test_a_chat_is_spoken(running: Running, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    from test_studio_walk import Walk

    heard = as_file(tmp_path / "seven.wav", "7", 48_000)
    with playwright.sync_playwright() as browsers:
        hearing = f"--use-file-for-fake-audio-capture={heard}%noloop"
        browser = browsing(browsers, *MICROPHONE, hearing)
        walk = Walk(browser, running.url)
        walk.page.add_init_script(COUNT)
        speak_and_listen(walk)
        assert walk.wrong == []
        browser.close()
        still = as_file(tmp_path / "still.wav", None, 48_000)
        browser = browsing(browsers, *MICROPHONE, f"--use-file-for-fake-audio-capture={still}")
        say_nothing(Walk(browser, running.url).page)
        browser.close()
        browser = browsing(browsers, MICROPHONE[0])  # which may not be used
        be_refused(Walk(browser, running.url).page)
        browser.close()


def speak_and_listen(walk: Any) -> None:
    page = walk.page
    page.goto("/play/talker?temperature=0")
    page.wait_for_selector("#say")
    assert sorted(page.locator("#v-hearer option").all_inner_texts()) == ["both", "ears"]
    page.select_option("#v-hearer", "ears")
    assert sorted(page.locator("#v-speaker option").all_inner_texts()) == [
        "both",
        "mouth",
        "reader",
    ]
    page.select_option("#v-speaker", "mouth")
    page.wait_for_selector("text=It says these words alone: 3, 7.")
    page.select_option("#v-whose", "bob")
    page.check("#v-aloud")
    hold(page, 900)
    page.wait_for_selector("text=Look whether that is what you said")
    assert page.input_value("#text") == "7"
    page.keyboard.press("Control+Enter")  # the message has the focus
    page.wait_for_selector("[data-unsaid]:has-text('mouth does not say ‘then’, ‘boats’: not')")
    page.wait_for_selector("#reading", state="hidden")
    assert page.evaluate("window.played") == 2
    assert page.locator(".turn .said").all_inner_texts() == ["7", "3 then. 7 boats"]
    walk.look()
    page.reload()  # what was chosen is kept
    page.wait_for_selector("[data-listen]")
    assert page.is_checked("#v-aloud")
    assert page.input_value("#v-whose") == "bob"
    page.check("#v-at-once")
    page.focus("[data-record]")
    page.keyboard.press("Space")
    page.wait_for_selector("[data-recording]")
    page.wait_for_timeout(900)
    page.keyboard.press("Space")
    page.wait_for_selector(".turn:nth-of-type(4) [data-listen]")  # sent at once
    page.wait_for_selector("#reading", state="hidden")
    page.click(".turn:nth-of-type(4) [data-listen]")
    page.wait_for_selector(".turn:nth-of-type(4) [data-listen]:has-text('Stop')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#reading", state="hidden")


def hold(page: Any, milliseconds: int) -> None:
    place = page.locator("[data-record]").bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.wait_for_selector("[data-recording]")
    page.wait_for_timeout(milliseconds)
    page.mouse.up()


def say_nothing(page: Any) -> None:
    page.goto("/play/talker")
    page.click("[data-record]")
    page.wait_for_selector("[data-recording]")
    page.wait_for_timeout(400)
    page.keyboard.press("Escape")
    page.wait_for_selector("text=It was thrown away")
    hold(page, 600)
    page.wait_for_selector("[data-recorded].bad:has-text('Nothing was heard')")


def be_refused(page: Any) -> None:
    page.goto("/play/talker")
    page.click("[data-record]")
    page.wait_for_selector("[data-recorded].bad:has-text('The microphone was refused')")
