"""Models that hear and speak two words, a high tone and a low one: real in every part, and learned
within a second."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as Pillow

from morphogen.core.batch import Batch
from morphogen.core.bundle import Bundle
from morphogen.core.codec import Codec, Item
from morphogen.core.random import generator
from morphogen.core.recipe import Recipe, build_family, resolve
from morphogen.modalities.category import Category
from morphogen.modalities.image import Image
from morphogen.modalities.interleaved import Interleaved
from morphogen.modalities.sound import Sound
from morphogen.modalities.sound.files import Waveform
from morphogen.modalities.text import Text
from morphogen.wrappers.latent_codec import LatentCodec

RATE = 8000
PITCH = {"3": 300.0, "7": 2000.0}  # of each word, in hertz
STEPS = 40


def spoken(word: str, seconds: float = 0.4, height: float = 0.5, still: float = 0.0) -> Waveform:
    """A word, as a tone, after seconds of silence."""
    times = np.arange(int(seconds * RATE)) / RATE
    tone = height * np.sin(2 * np.pi * PITCH[word] * times)
    whole = np.concatenate([np.zeros(int(still * RATE)), tone])
    return Waveform(whole[None].astype("f4"), RATE)


def that_hears(backbone: str = "transformer") -> Bundle:
    """Texts learned given their sounds, which are of half a second at most."""
    words = [*PITCH] * 8
    draw = np.random.default_rng(0)
    sounds = [Item(spoken(word, *draw.uniform((0.3, 0.1, 0.0), (0.4, 0.9, 0.1)))) for word in words]
    codec = Text(tokenizer="byte").fit([Item(word) for word in words])
    codec.condition_codecs["sound"] = Sound(bands=8, hop=32.0).fit(sounds)
    seen = {"cond_dim": 32, "cond_layers": 1, "cond_positions": 8, "drop_prob": 0.0}
    recipe = Recipe(family={"name": "autoregressive", **seen},
                    backbone={"name": backbone, "model_dim": 32, "num_layers": 1})  # fmt: skip
    bundle = _bundle(recipe, codec)
    x = codec.encode_many([Item(word) for word in words])
    batch = Batch(x, cond={"sound": codec.condition_codecs["sound"].encode_many(sounds)})
    _learn(bundle, batch)
    return bundle


def _learn(bundle: Bundle, batch: Batch, steps: int = STEPS) -> None:
    family = bundle.family.train()
    optimizer = torch.optim.Adam(family.parameters(), 0.01)
    for step in range(steps):
        optimizer.zero_grad()
        family.loss(batch, family.phases[0], generator(step))[0].mean().backward()
        optimizer.step()
    family.eval()


def of_parts() -> Bundle:
    """Items of a sound and the word that is said in it, as one sequence of tokens of which any are
    drawn given the others."""
    words = [*PITCH] * 8
    heights = np.random.default_rng(0).uniform(0.4, 0.6, len(words))
    said = zip(words, heights, strict=True)
    sounds = [spoken(word, height=height, still=0.2) for word, height in said]
    within = Sound(bands=8, hop=32.0).fit(map(Item, sounds))
    recipe = Recipe(family={"name": "vq_vae"}, backbone={"name": "mlp", "model_dim": 16})
    coder = _bundle(recipe, within)
    _learn(coder, Batch(within.encode_many(list(map(Item, sounds)))))
    codec = Interleaved(vocab_size=260)
    codec.coders.add("sound", LatentCodec.from_bundle(coder).fit([]))
    parts = zip(sounds, words, strict=True)
    items = [Item({"sound": sound, "word": word}) for sound, word in parts]
    codec.fit(items)
    network = {"name": "transformer", "model_dim": 32, "num_layers": 1}
    bundle = _bundle(Recipe(family={"name": "masked"}, backbone=network), codec)
    _learn(bundle, Batch(codec.encode_many(items)), 5 * STEPS)
    return bundle


def of_pictures() -> Bundle:
    """Items of a caption and its picture, a square of a colour, learned by heart."""
    colours = {"a red square": (220, 30, 30), "a blue square": (40, 60, 220)}
    items = [
        Item({"caption": said, "picture": Pillow.new("RGB", (8, 8), colour)})
        for said, colour in colours.items()
    ] * 8  # fmt: skip
    within = Image().fit(pictures := [Item(item.value["picture"]) for item in items])
    coder = _bundle(
        Recipe(family={"name": "vq_vae"}, backbone={"name": "mlp", "model_dim": 16}), within
    )
    _learn(coder, Batch(within.encode_many(pictures)))
    codec = Interleaved(parts="caption,picture", vocab_size=270)
    codec.coders.add("image", LatentCodec.from_bundle(coder).fit([]))
    network = {"name": "transformer", "model_dim": 16, "num_layers": 1}
    bundle = _bundle(Recipe(family={"name": "autoregressive"}, backbone=network), codec.fit(items))
    _learn(bundle, Batch(codec.encode_many(items)), 4 * STEPS)
    return bundle


def that_speaks(*, of_texts: bool = False) -> Bundle:
    """Sounds learned given a word: as one of two names, in one of two voices, or as a text. What it
    draws is noise, as it learned nothing."""
    codec = Sound(bands=8, hop=32.0).fit([Item(spoken(word)) for word in PITCH])
    if of_texts:
        told: Codec = Text(tokenizer="byte", form="documents").fit([Item("three seven")])
        codec.condition_codecs["caption"] = told
    else:
        codec.condition_codecs["speaker"] = Category().fit([Item("ann"), Item("bob")])
        codec.condition_codecs["label"] = Category().fit([Item(word) for word in PITCH])
    family = {"name": "flow_matching", "num_steps": 2}
    return _bundle(Recipe(family=family, backbone={"name": "mlp", "model_dim": 8}), codec)


def that_tells_apart() -> Bundle:
    """Sounds whose label is to be found: it hears no words, and says none."""
    codec = Sound(bands=8, hop=32.0).fit([Item(spoken(word)) for word in PITCH])
    codec.condition_codecs["label"] = Category().fit([Item(word) for word in PITCH])
    recipe = Recipe(family={"name": "supervised"}, backbone={"name": "conv", "model_dim": 8})
    return _bundle(recipe, codec)


def _bundle(recipe: Recipe, codec: Codec) -> Bundle:
    torch.manual_seed(0)
    family = build_family(recipe, codec.spec, codec.conditions).eval()
    return Bundle(family, codec, resolve(recipe, codec.spec))
