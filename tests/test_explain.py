"""Explanations: probabilities, ranks, attention and slopes against what they are by definition."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from morphogen.core.bundle import Bundle
from morphogen.core.capability import HasFeatures, missing
from morphogen.core.codec import Item
from morphogen.core.errors import DataError, RefusedPair
from morphogen.core.explaining import CanExplain
from morphogen.core.recipe import Recipe, build_family
from morphogen.core.spec import TensorSpec
from morphogen.evaluation.explanation import check_explains, write_explanation
from morphogen.modalities.text import Text

TEXTS = ["The bridge was quiet.", "and then 'so' <b>it</b> was", "日本 ok"]


def model(length: int = 32, **backbone: Any) -> tuple[Any, Text]:
    codec = Text(length=length, form="documents", tokenizer="byte")
    codec.fit([Item(text) for text in TEXTS])
    recipe = Recipe(
        family={"name": "autoregressive"},
        backbone={"name": "token_transformer", "model_dim": 32, "num_layers": 2, **backbone},
    )
    torch.manual_seed(0)
    return build_family(recipe, codec.spec, {}).eval(), codec


@pytest.mark.parametrize(
    "backbone", [{}, {"num_heads": 2, "num_kv_heads": 1}, {"position": "learned", "ngrams": 3}]
)
def test_what_is_told_is_what_the_network_does(backbone: dict[str, Any]) -> None:
    family, codec = model(**backbone)
    (tokens,) = codec.encode_sequences([Item(TEXTS[0])])
    told = family.explain(tokens, num_alternatives=3)
    padded = codec.encode_many([Item(TEXTS[0])])
    n = len(tokens)
    assert torch.allclose(told.log_prob, family.token_log_prob(padded)[0, :n], atol=1e-5)
    for i in range(n):
        probs = family.predict_next(tokens[None, :i])[0].softmax(-1)
        assert int(told.rank[i]) == 1 + int((probs > probs[tokens[i]]).sum())
        assert [token for token, _ in told.alternatives[i]] == probs.topk(3).indices.tolist()
    for table in (*told.attention, told.rollout):
        assert torch.allclose(table.sum(1), torch.ones(n), atol=1e-5)
        assert (table.triu(1) == 0).all()


def test_attention_mixes_values_as_the_network_does() -> None:
    family, codec = model(num_heads=2, num_kv_heads=1)
    x = codec.encode_many([Item(text) for text in TEXTS])
    network = family.network
    h, masks = network._entered(x, None)
    layer = network.layers[0]
    attend, mask = layer.self_attn, masks[layer.is_local]
    rotation = network._rotations(slice(x.shape[1]))[layer.is_local]
    query, key, value = attend.project(h, rotation)
    weights = attend.looked_at(query, key, mask, True)
    mixed = (weights @ value.repeat_interleave(2, dim=1)).transpose(1, 2).flatten(2)
    expected = attend.mix(query, key, value, mask, mask is None)
    assert torch.allclose(attend.o_proj(mixed), expected, atol=1e-5)


def test_attribution_is_the_slope_along_what_was_read() -> None:
    """d/ds log p(x_i), all that was read at place j made (1 + s) times as large."""
    family, codec = model()
    (tokens,) = codec.encode_sequences([Item(TEXTS[2])])
    family = family.double()
    told = family.explain(tokens)
    assert (told.attribution.triu(1) == 0).all()
    network, step = family.network, 1e-5

    def log_prob(place: int, scale: float) -> torch.Tensor:
        def scaled(module: Any, args: Any) -> Any:
            h = args[0].clone()
            h[:, place] *= scale
            return (h, *args[1:])

        hook = network.layers[0].register_forward_pre_hook(scaled)
        with torch.no_grad():
            logits = network.logits(network.features(family.inputs(tokens[None])))[0]
        hook.remove()
        log_probs = logits[:, : family.vocab_size].log_softmax(-1)
        return log_probs.gather(1, tokens[:, None])[:, 0]

    for place in (0, 2, len(tokens) - 1):
        slope = (log_prob(place, 1 + step) - log_prob(place, 1 - step)) / (2 * step)
        assert torch.allclose(told.attribution[:, place], slope, atol=1e-6)


def test_features_are_of_what_is_real() -> None:
    family, codec = model(length=32)
    wide, _ = model(length=48)
    wide.load_state_dict(family.state_dict())
    texts = [Item("short"), Item("another one")]
    short = family.features(codec.encode_many(texts))
    assert short.shape == (2, 32)
    longer = Text(length=48, form="documents", tokenizer="byte").fit([Item("x" * 40)])
    assert torch.allclose(short, wide.features(longer.encode_many(texts)), atol=1e-5)


def test_networks_that_show_nothing_have_nothing_to_show() -> None:
    spec = TensorSpec.tokens(8, 5)
    other = build_family(Recipe(family={"name": "autoregressive"}), spec, {})
    assert missing(other, CanExplain) == ["explain"]
    assert missing(other, HasFeatures) == ["features"]
    assert not missing(model()[0], CanExplain)
    assert not missing(model()[0], HasFeatures)


# -- the page ------------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself_and_holds_what_was_told(tmp_path: Path) -> None:
    family, codec = model()
    bundle = Bundle(family, codec, Recipe(family={"name": "autoregressive"}))
    path = write_explanation(bundle, TEXTS[1], tmp_path / "page.html")
    page = path.read_text()
    assert not re.search(r"https?://|<link|src=", page)
    assert "<b>it" not in page  # a text is no markup
    (data,) = re.findall(r'id="data">(.*?)</script>', page)
    told = json.loads(data)
    assert "".join(token["text"] for token in told["tokens"]) == TEXTS[1]
    assert len(told["views"]) == 4  # slopes, all layers, and each of two
    for table in told["views"].values():
        assert len(base64.b64decode(table)) == len(told["tokens"]) ** 2
    with pytest.raises(DataError, match="nothing to explain"):
        write_explanation(bundle, "", tmp_path / "none.html")
    write_explanation(bundle, "x" * 40, path)
    assert "first 8 tokens are left out" in path.read_text()


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no browser")
def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    family, codec = model()
    bundle = Bundle(family, codec, Recipe(family={"name": "autoregressive"}))
    path = write_explanation(bundle, TEXTS[1], tmp_path / "page.html")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command.append(f"file://{path}#5")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "<code>t</code>" in done.stdout  # the fifth token of the text
    assert done.stdout.count('class="on"') == 1
    assert done.stdout.count("<tr>") == 8


def test_others_say_why_they_explain_nothing() -> None:
    spec = TensorSpec.tokens(8, 5)
    other = build_family(Recipe(family={"name": "autoregressive"}), spec, {})
    with pytest.raises(RefusedPair, match="cannot say what it looked at"):
        check_explains(Bundle(other, Text(), Recipe(family={"name": "autoregressive"})))
