"""A trained model used as a codec: unit variance, round trips, and a rebuild that is identical."""

from __future__ import annotations

import json

import pytest
import torch

from morphogen.cli.app import main
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Item, Report
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.random import generator, rand
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.data.conditions import fit_conditions
from morphogen.modalities.image import Image
from morphogen.systems.agents.tools.models import bundle_tools
from morphogen.wrappers.latent_codec import LatentCodec

SMALL = {"name": "mlp", "model_dim": 16, "num_layers": 1}


@pytest.fixture(scope="module")
def pictures() -> list[Item]:
    from PIL import Image as Pillow

    grey = (255 * rand((300, 8, 8), generator(0))).byte().numpy()
    labels = ["cat", "dog"]
    return [
        Item(Pillow.fromarray(each), f"{i}.png", {"label": labels[i % 2]})
        for i, each in enumerate(grey)
    ]


def bundle(items: list[Item], family: dict) -> Bundle:
    torch.manual_seed(0)
    codec = Image()
    codec.fit(items)
    fit_conditions(codec, [item.cond for item in items], Report(""))
    recipe = Recipe(family=family, backbone=SMALL)
    built = build_family(recipe, codec.spec, {})
    return Bundle(built, codec, recipe)


@pytest.fixture(scope="module", params=["autoencoder", "vq_vae"])
def latents(request, pictures) -> LatentCodec:
    return LatentCodec.from_bundle(bundle(pictures, {"name": request.param})).fit(pictures)


def test_real_latents_have_unit_variance_and_tokens_are_left_alone(latents, pictures):
    z = latents.encode_many(pictures)
    assert z.shape == (300, *latents.spec.shape)
    if latents.spec.kind == "token":
        assert z.min() >= 0
        assert z.max() < latents.spec.vocab_size
        return
    by_channel = z.movedim(1, 0).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(len(by_channel)), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        by_channel.std(1, correction=0), torch.ones(len(by_channel)), atol=1e-3, rtol=0
    )
    assert latents.spec.levels is None


def test_decoding_is_the_models_own_reconstruction(latents, pictures):
    few, model = pictures[:4], latents.model
    x = latents.inner.encode_many(few)
    with torch.no_grad():
        wanted = latents.inner.decode_many(model.decode(model.encode(x)).clamp(-1, 1))
    found = latents.decode_many(latents.encode_many(few))
    assert len(found) == len(wanted) == 4
    for a, b in zip(found, wanted, strict=True):
        a, b = (latents.inner.encode(Item(value)) for value in (a, b))
        # Scaling there and back may turn one level over.
        assert (a - b).abs().max() <= 2 / 255 + 1e-6
    first = latents.inner.encode(Item(latents.decode(latents.encode(few[0]))))
    assert (first - latents.inner.encode(Item(found[0]))).abs().max() <= 2 / 255 + 1e-6


def test_rebuilt_from_json_and_tensors_it_encodes_identically(latents, pictures):
    state = json.loads(json.dumps(latents.state()))
    rebuilt = LatentCodec.from_state(state, latents.tensors())
    assert rebuilt.spec == latents.spec
    assert rebuilt.conditions == latents.conditions == {"label": TensorSpec.label(2)}
    assert torch.equal(rebuilt.encode_many(pictures), latents.encode_many(pictures))


def test_a_bundle_over_it_opens_again(latents, pictures, tmp_path, monkeypatch):
    z = latents.encode_many(pictures[:3])
    name = "autoregressive" if latents.spec.kind == "token" else "gan"
    backbone = {"name": "rnn", "model_dim": 8} if latents.spec.kind == "token" else SMALL
    recipe = Recipe(family={"name": name}, backbone=backbone)
    torch.manual_seed(0)
    Bundle(build_family(recipe, latents.spec, {}), latents, recipe).save(tmp_path / "latent")
    again = Bundle.open(tmp_path / "latent")
    assert isinstance(again.codec, LatentCodec)
    assert torch.equal(again.codec.encode_many(pictures[:3]), z)
    drawn = again.family.sample(2, generator=generator(0))
    assert len(again.codec.decode_many(drawn)) == 2
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["task", "generate", "latent", "--set", "num=2"])
    assert not ended.value.code
    assert (tmp_path / "generate.png").is_file()  # as its inner codec writes
    (made,) = bundle_tools(again, "latent", tasks=["generate"], out=tmp_path)
    assert made.run({"num": 2})["file"] == "latent-generate-1.png"


def test_the_inner_codec_reads_names_and_writes(latents, pictures, tmp_path):
    assert latents.class_names("label") == ["cat", "dog"]
    assert latents.encode_condition("label", "dog").item() == 1
    written = latents.write(
        latents.decode_many(latents.encode_many(pictures[:2])), tmp_path / "a.png"
    )
    assert written.is_file()
    assert len(latents.read_inputs(written)) == 1
    assert latents.suffix == latents.inner.suffix
    assert LatentCodec.recognises(written) is None
    assert latents.encode_many([]).shape == (0, *latents.spec.shape)


def test_an_unused_channel_does_not_blow_up(pictures):
    codec = LatentCodec.from_bundle(bundle(pictures, {"name": "autoencoder"}))
    with torch.no_grad():
        for parameter in codec.model.encoder.parameters():
            parameter.zero_()
    z = codec.fit(pictures).encode_many(pictures[:5])
    torch.testing.assert_close(z, torch.zeros_like(z))


def test_what_is_no_codec_is_refused(pictures):
    with pytest.raises(RefusedPair, match="vae"):
        LatentCodec.from_bundle(bundle(pictures, {"name": "gan"}))
    with pytest.raises(DataError):
        LatentCodec.from_bundle(bundle(pictures, {"name": "autoencoder"})).fit([])
