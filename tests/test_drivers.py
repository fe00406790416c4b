"""Models that other libraries run: the same numbers, texts and pictures as those libraries give."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import driven_models
from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item
from morphogen.core.errors import BundleError, DataError, MorphogenError, RecipeError, RefusedPair
from morphogen.core.extras import extra
from morphogen.core.random import generator
from morphogen.core.storage import read_tensors, write_tensors
from morphogen.interop.driven import wanted
from morphogen.interop.importing import import_model, opened_or_imported
from morphogen.modalities.sound.files import Waveform

transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("faster_whisper")
pytest.importorskip("soxr")

ROOT = Path(__file__).parents[1]
WHISPER = ROOT / "models" / "published" / "whisper"
SHARED = Path(os.environ.get("MORPHOGEN_SHARED", ROOT.parent / "shared"))
DIGIT = SHARED / "data" / "fsdd" / "recordings" / "7_jackson_0.wav"
STEPS, GUIDANCE = 4, 3.0


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """The folder of a small random model, and the model as its own library has it."""
    known: dict[str, tuple[Path, Any]] = {}

    def made(name: str) -> tuple[Path, Any]:
        if name not in known:
            folder = tmp_path_factory.mktemp("published") / name
            with torch.random.fork_rng():
                torch.manual_seed(7)
                known[name] = folder, getattr(driven_models, f"write_{name}")(folder)
        return known[name]

    return made


@pytest.fixture(scope="module")
def bundles(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """A small model imported, saved, and opened again."""
    known: dict[str, Bundle] = {}

    def opened(name: str) -> Bundle:
        if name not in known:
            out = tmp_path_factory.mktemp("bundles") / name
            known[name] = Bundle.open(import_model(published(name)[0]).save(out))
        return known[name]

    return opened


def pictures(num: int = 3, side: int = driven_models.SIDE) -> list[Pillow.Image]:
    """Colour pictures of noise."""
    draw = np.random.default_rng(3)
    return [Pillow.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(num)]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must succeed; return what it printed."""
    failed, said = main_fails(*arguments), capsys.readouterr()
    assert not failed, said.err
    return said.out


def main_fails(*arguments: object) -> bool:
    """Whether a command fails."""
    try:
        main([str(each) for each in arguments])
    except SystemExit as stop:
        return bool(stop.code)
    return False


def test_what_has_one_size_is_not_opened_in_another(published: Any) -> None:
    with pytest.raises(RecipeError, match="in one size alone"):
        import_model(published("clip")[0], size=48)


# -- pictures and texts in one space ---------------------------------------------------------------


def test_pictures_and_texts_lie_where_transformers_puts_them(published: Any, bundles: Any) -> None:
    folder, theirs = published("clip")
    ours, classes = bundles("clip"), ["cat", "dog", "harbour"]
    reader = transformers.CLIPImageProcessor.from_pretrained(folder)
    tokens = transformers.CLIPTokenizer.from_pretrained(folder)
    texts = [f"a photo of a {name}." for name in classes]
    with torch.no_grad():
        expected = theirs(
            **reader(pictures(), return_tensors="pt"),
            **tokens(texts, padding=True, return_tensors="pt"),
        )
    told = ours.family.text_features(texts).detach()
    assert told == pytest.approx(expected.text_embeds, abs=1e-6)
    told = ours.task("embed", *map(Item, pictures()), vectors=True, texts=texts).values
    assert torch.tensor(told["vectors"]) == pytest.approx(expected.image_embeds, abs=1e-5)
    found = ours.task("classify", *map(Item, pictures()), classes=classes)
    assert found.route == "texts"
    probs = expected.logits_per_image.softmax(1)
    assert torch.tensor(found.values["probs"]) == pytest.approx(probs, abs=1e-5)
    assert found.values["class"] == [classes[i] for i in probs.argmax(1).tolist()]


def test_zero_shot_needs_classes_that_differ(bundles: Any) -> None:
    ours, picture = bundles("clip"), Item(pictures(1)[0])
    for classes in (None, ["cat"], ["cat", "cat"]):
        with pytest.raises(RecipeError, match="--set classes="):
            ours.task("classify", picture, classes=classes)
    with pytest.raises(DataError, match="24 at most"):
        ours.task("classify", picture, classes=["cat", "a word that is far too long to read"])


# -- sound to text -------------------------------------------------------------------------------


def speech(seconds: float, rate: int = 16_000) -> np.ndarray:
    """A sound that changes."""
    time = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (200 + 100 * time) * time)).astype(np.float32)


@pytest.mark.parametrize("seconds", [2.0, 33.0])
def test_whisper_writes_what_transformers_writes(
    published: Any, bundles: Any, seconds: float
) -> None:
    folder, theirs = published("whisper")
    reader = transformers.WhisperProcessor.from_pretrained(folder)
    whole = {"truncation": False, "padding": "longest"} if seconds > 30 else {}
    sound = speech(seconds)
    heard = reader.feature_extractor(
        sound, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True, **whole
    )
    told = theirs.generate(
        **heard, return_timestamps=True, return_segments=True, language="en", task="transcribe"
    )
    expected = [
        (reader.tokenizer.decode(each["tokens"], skip_special_tokens=True),
         min(float(each["end"]), seconds))
        for each in told["segments"][0]
    ]  # fmt: skip
    given = Item(Waveform(sound[None], 16_000))
    (found,) = bundles("whisper").task("transcribe", given, language="en").values["segments"]
    assert [(each["text"], each["end"]) for each in found] == [
        (text, pytest.approx(end, abs=1e-3)) for text, end in expected
    ]
    assert found


def test_whisper_finds_the_language_or_is_told(bundles: Any) -> None:
    ours, given = bundles("whisper"), Item(Waveform(speech(1.0)[None], 16_000))
    assert ours.task("transcribe", given).values["language"][0] in {"en", "de"}
    assert ours.task("transcribe", given, language="de").values["language"] == ["de"]
    with pytest.raises(RecipeError, match=r"Did you mean 'de'|no language 'dee'"):
        ours.task("transcribe", given, language="dee")
    with pytest.raises(RecipeError, match="skip_silence"):
        ours.task("transcribe", given, skip_silence=True)


def test_transcripts_are_written_as_text_captions_and_json(
    bundles: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", speech(1.0, 8000), 8000)
    bundle, sound = bundles("whisper").path, tmp_path / "a.wav"
    assert not main_fails("task", "transcribe", bundle, sound, "--out", tmp_path / "a.srt")
    assert (tmp_path / "a.srt").read_text().startswith("1\n00:00:0")
    run(capsys, "task", "transcribe", bundle, sound, "--out", tmp_path / "a.json")
    told = json.loads((tmp_path / "a.json").read_text())
    assert {"language", "segments", "text", "seconds"} <= told.keys()
    assert told["seconds"] == [1.0]
    assert run(capsys, "task", "transcribe", bundle, sound).strip()
    two = bundles("whisper").task("transcribe", sound, sound)
    with pytest.raises(MorphogenError, match="captions are of one sound"):
        two.save(tmp_path / "two.srt")
    with pytest.raises(MorphogenError, match=r"\.txt, \.json"):
        two.save(tmp_path / "two.mp3")


@pytest.mark.skipif(not WHISPER.is_dir(), reason="make models")
@pytest.mark.skipif(not DIGIT.is_file(), reason="the spoken digits are not there")
def test_the_real_whisper_hears_what_faster_whisper_hears(tmp_path: Path) -> None:
    import faster_whisper

    bundle = import_model(WHISPER)
    found = Bundle.open(bundle.save(tmp_path / "whisper")).task("transcribe", DIGIT, num_beams=1)
    theirs = faster_whisper.WhisperModel(str(WHISPER), device="cpu", cpu_threads=1)
    (sound,) = bundle.items(DIGIT)
    pieces, _ = theirs.transcribe(bundle.codec.waveform(sound.value)[0].numpy(), beam_size=1)
    expected = [each.text for each in pieces]
    assert [each["text"] for each in found.values["segments"][0]] == expected
    assert "seven" in found.raw[0].lower()
    assert bundle.origin["licence"] == "MIT"
    with pytest.raises(RefusedPair, match="English alone"):
        bundle.task("transcribe", DIGIT, translate=True)


# -- text to picture -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stable_diffusion", "xl"])
def test_pictures_are_those_of_the_pipeline(published: Any, bundles: Any, name: str) -> None:
    _, pipe = published(name)
    asked = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "pt"}
    expected = pipe("a red boat", negative_prompt="fog", generator=generator(5), **asked).images
    ours, cond = bundles(name), {"prompt": "a red boat", "negative_prompt": "fog"}
    given = {"num_steps": STEPS, "guidance": GUIDANCE}
    found = ours.sample(1, seed=5, cond=cond, **given).x
    assert torch.equal(found, expected * 2 - 1)
    assert not torch.equal(ours.sample(1, seed=5, cond={"prompt": "fog"}, **given).x, found)
    both = ours.sample(2, seed=5, cond={"prompt": ["a red boat", "fog"]}, **given).x
    assert both.shape == (2, 3, 16, 16)
    assert ours.sample(1, num_steps=1).x.isfinite().all()  # of no prompt


def test_a_prompt_that_is_too_long_says_what_is_left_out(bundles: Any) -> None:
    long = "a boat that lies in the harbour"
    with pytest.warns(UserWarning, match="the model reads 24, and leaves the rest out: a boat"):
        bundles("stable_diffusion").sample(1, cond={"prompt": long}, num_steps=1)


def test_what_the_checker_of_a_pipeline_blackens_is_told(published: Any) -> None:
    ours = import_model(published("stable_diffusion")[0])
    ours.family.networks["safety_checker"].concept_embeds_weights.fill_(-2)  # finds it everywhere
    with pytest.warns(UserWarning, match="blackened 1 of 1"):
        found = ours.sample(1, num_steps=1)
    assert (found.x == -1).all()


def test_pictures_are_changed_as_the_pipelines_change_them(published: Any, bundles: Any) -> None:
    _, pipe = published("stable_diffusion")
    ours, (picture, *_) = bundles("stable_diffusion"), pictures(1)
    asked = {"num_inference_steps": STEPS, "output_type": "pt", "generator": generator(5)}
    changes = diffusers.StableDiffusionImg2ImgPipeline(**pipe.components)
    expected = changes("a boat", image=picture, strength=0.5, **asked).images
    cond = {"prompt": "a boat"}
    found = ours.task(
        "vary", Item(picture), seed=5, cond=cond, strength=0.5, num=1, num_steps=STEPS
    )
    assert found.route == "vary"
    assert found.x[1] == pytest.approx(expected[0] * 2 - 1, abs=1e-5)
    with pytest.raises(RecipeError, match="num_steps of at least 10"):
        ours.task("vary", Item(picture), strength=0.1, num_steps=4)


@pytest.mark.parametrize("name", ["stable_diffusion", "inpainting"])
def test_a_hidden_part_is_filled_as_the_pipeline_fills_it(
    published: Any, bundles: Any, name: str
) -> None:
    _, pipe = published(name)
    ours, (picture, *_) = bundles(name), pictures(1)
    fills = diffusers.StableDiffusionInpaintPipeline(**pipe.components)
    hidden = torch.zeros(1, 1, 16, 16)
    hidden[..., 8:] = 1
    expected = fills(
        "a boat", image=picture, mask_image=hidden, generator=generator(5), height=16, width=16,
        num_inference_steps=STEPS, output_type="pt",
    ).images  # fmt: skip
    found = ours.task(
        "fill", Item(picture), seed=5, cond={"prompt": "a boat"}, mask="right", num=1,
        num_steps=STEPS,
    )  # fmt: skip
    filled, original = found.x[1], ours.encode(Item(picture))[0]
    assert torch.equal(filled[..., :8], original[..., :8])
    assert filled[..., 8:] == pytest.approx(expected[0, ..., 8:] * 2 - 1, abs=1e-5)


def test_a_model_that_fills_says_that_it_draws_nothing(bundles: Any) -> None:
    reasons = bundles("inpainting").tasks()
    assert reasons["fill"] is None
    assert "morphogen task fill" in reasons["generate"]


def test_pictures_are_drawn_from_the_command_line(
    published: Any, bundles: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = published("stable_diffusion")[0], tmp_path / "sd"
    assert "next: morphogen" in run(capsys, "import", folder, "--out", out)
    assert "sha256 of unet/diffusion_pytorch_model.safetensors" in (out / "README.md").read_text()
    shown = run(capsys, "show", out)
    assert "stable_diffusion" in shown
    assert "rombach2022" in run(capsys, "cite", out)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    steps = ("--set", "num_steps=2")
    run(capsys, "sample", out, "-n", 1, "--prompt", "a boat", "--out", first, *steps)
    run(capsys, "sample", out, "-n", 1, "--cond", "prompt=a boat", "--out", second, *steps)
    assert np.array_equal(np.asarray(Pillow.open(first)), np.asarray(Pillow.open(second)))
    pictures(1)[0].save(tmp_path / "in.png")
    filled = ("task", "fill", folder, tmp_path / "in.png", "--prompt", "a boat", *steps)
    run(capsys, *filled, "--out", tmp_path / "filled.png")
    assert (tmp_path / "filled.png").is_file()


# -- bundles and bad input -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "whisper", "stable_diffusion"])
def test_a_driven_model_is_opened_with_the_weights_it_had(
    published: Any, bundles: Any, name: str
) -> None:
    """What was saved needs no folder to come from, and tells where it came from."""
    first, again = import_model(published(name)[0]), bundles(name)
    ours, theirs = first.family.state_dict(), again.family.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert first.recipe.driver == again.recipe.driver
    assert again.origin["files"] == first.origin["files"]
    assert first.origin.get("licence") == ("mit" if name == "clip" else None)


def changed(folder: Path, to: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, to / folder.name))


@pytest.mark.parametrize(
    ("name", "weights"),
    [("clip", "model"), ("whisper", "model"), ("stable_diffusion", "unet/diffusion_pytorch_model")],
)
def test_weights_that_do_not_fit_are_named(
    published: Any, tmp_path: Path, name: str, weights: str
) -> None:
    folder = changed(published(name)[0], tmp_path)
    file = folder / f"{weights}.safetensors"
    whole = read_tensors(file)
    names = sorted(key for key in whole if key.endswith("bias"))
    lacking = {key: value for key, value in whole.items() if key != names[0]}
    write_tensors(file, {**lacking, "stray": torch.zeros(2)}, {"format": "pt"})
    with pytest.raises(BundleError, match=r"1 missing.*1 too many: stray") as error:
        import_model(folder)
    assert names[0].rpartition("model.")[2] in str(error.value)
    write_tensors(file, {**whole, names[0]: torch.zeros(3)}, {"format": "pt"})
    with pytest.raises(BundleError, match="1 of another shape"):
        import_model(folder)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match="damaged"):
        import_model(folder)
    file.with_suffix(".bin").write_bytes(b"PK\x03\x04")
    file.unlink()
    with pytest.raises(BundleError, match="pickled"):
        import_model(folder)
    file.with_suffix(".bin").unlink()
    with pytest.raises(BundleError, match="there are no weights"):
        import_model(folder)


def test_pipelines_and_parts_that_are_not_known_are_named(published: Any, tmp_path: Path) -> None:
    folder = changed(published("stable_diffusion")[0], tmp_path)
    index = json.loads((folder / "model_index.json").read_text())

    def with_(**entries: Any) -> Path:
        (folder / "model_index.json").write_text(json.dumps({**index, **entries}))
        return folder

    with pytest.raises(BundleError, match="Did you mean 'StableDiffusionPipeline'"):
        import_model(with_(_class_name="StableDifusionPipeline"))
    with pytest.raises(BundleError, match="Did you mean 'UNet2DConditionModel'"):
        import_model(with_(unet=["diffusers", "UNet2DModel"]))
    with pytest.raises(BundleError, match=r"missing\n.*vae"):
        import_model(with_(vae=[None, None]))
    with pytest.raises(BundleError, match="no such scheduler"):
        import_model(with_(scheduler=["diffusers", "DDPMMScheduler"]))
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match="the vocabulary is missing"):
        import_model(with_())


def test_an_unknown_kind_of_model_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "wisper"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="Did you mean 'whisper'"):
        import_model(tmp_path)


def test_a_whisper_of_ctranslate2_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    head = (6).to_bytes(4, "little") + (12).to_bytes(2, "little") + b"WhisperSpec\0"
    (tmp_path / "model.bin").write_bytes(head)
    with pytest.raises(BundleError, match=r"config\.json, tokenizer\.json"):
        import_model(tmp_path)
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BundleError, match="damaged"):
        import_model(tmp_path)


def test_a_library_that_is_missing_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MorphogenError, match=r"pip install 'morphogen\[faster-whisper\]'"):
        extra("faster_whisper", "faster-whisper", "this model is run")


def test_a_driven_model_is_not_trained_or_shortened(
    bundles: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, picture in enumerate(pictures(6)):
        picture.save(tmp_path / f"{number}.png")
    start = bundles("clip").path
    assert main_fails("train", tmp_path, "--from", start, "--out", tmp_path / "out")
    assert "not trained here" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="only models of texts"):
        import_model(published("clip")[0], length=12)


def test_a_config_of_a_stranger_chooses_no_code(published: Any, tmp_path: Path) -> None:
    folder = changed(published("clip")[0], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "evil--code"}, "_attn_implementation": "evil/kernel"}
    config["text_config"]["attn_implementation"] = "evil/kernel"
    (folder / "config.json").write_text(json.dumps(config))
    bundle = import_model(folder)
    assert "evil" not in json.dumps(bundle.recipe.to_json())
    out = bundle.save(tmp_path / "bundle")
    told = json.loads((out / "config.json").read_text())
    told["recipe"]["driver"]["config"] |= {"attn_implementation": "evil/kernel"}
    (out / "config.json").write_text(json.dumps(told))
    opened = Bundle.open(out).family.model.config
    assert "evil" not in str(opened._attn_implementation)


def test_files_in_a_bundle_lie_nowhere_else(bundles: Any, tmp_path: Path) -> None:
    folder = changed(bundles("clip").path, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    files = config["recipe"]["driver"]["files"]
    files["../../stray.json"] = files.pop("tokenizer.json")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="lies elsewhere"):
        Bundle.open(folder)


def used(folder: Path) -> None:
    """Open a bundle, and let it work."""
    opened = Bundle.open(folder)
    if opened.tasks()["generate"] is None:
        opened.sample(1, num_steps=1)
    else:
        opened.task("embed", Item(pictures(1)[0]), vectors=True)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("clip", ("config", "vision_config", "num_hidden_layers"), {}),
        ("clip", ("config", "text_config", "hidden_size"), 1.5),
        ("clip", ("mean",), ["dark"]),
        ("stable_diffusion", ("parts", "unet", "config", "block_out_channels"), "many"),
        ("stable_diffusion", ("parts", "unet", "class"), "os.system"),
        ("stable_diffusion", ("scheduler", "config", "num_train_timesteps"), "x"),
        ("stable_diffusion", ("scheduler", "config", "timestep_spacing"), None),
        ("stable_diffusion", ("readers",), {}),
    ],
)
def test_a_damaged_record_of_a_driver_is_an_error_for_people(
    bundles: Any, tmp_path: Path, name: str, place: tuple[str, ...], value: object
) -> None:
    folder = changed(bundles(name).path, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    told = config["recipe"]["driver"]
    for key in place[:-1]:
        told = told[key]
    told[place[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MorphogenError):
        used(folder)


def test_a_folder_that_is_no_model_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        opened_or_imported(tmp_path)
    with pytest.raises(BundleError, match="no bundle here"):
        opened_or_imported("models/of-nobody")  # and nothing is looked for in the Hub


def test_what_is_fetched_of_a_hub_is_whole_and_unpickled() -> None:
    unet = "unet/diffusion_pytorch_model"
    there = [
        "model_index.json", f"{unet}.safetensors", f"{unet}.fp16.safetensors", f"{unet}.bin",
        "vae/diffusion_pytorch_model.fp16.safetensors", "v1-5-pruned.safetensors",
    ]  # fmt: skip
    weights = [name for name in wanted(there) if name.endswith(("safetensors", "bin"))]
    assert weights == [f"{unet}.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"]
    assert "model.bin" in wanted(["model.bin", "vocabulary.txt", "config.json"])
    assert "model.bin" not in wanted(["model.bin", "pytorch_model.bin", "config.json"])
