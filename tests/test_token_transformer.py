"""The transformer of language models: Llama's layout, masks, and what is kept between steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from morphogen.backbones._sequence import Kept, RMSNorm
from morphogen.backbones.token_transformer import MOST_LOGITS, TokenTransformer
from morphogen.core.random import generator
from morphogen.core.spec import TensorSpec

torch.set_num_threads(1)

V, L = 23, 17
TEXT = TensorSpec.tokens(L, V, boundary=V - 1)
OUT = TensorSpec("real", (V, L), layout="sequence")
SMALL: dict[str, Any] = {"model_dim": 32, "num_layers": 2, "num_heads": 4, "ngrams": 1}


def network(**options: Any) -> Any:
    torch.manual_seed(0)
    built = TokenTransformer(TEXT, OUT, causal=True, **{**SMALL, **options})
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


def put(kept: Kept, row: int, other: Kept) -> None:
    """Let a row go on where the one row of another is."""
    until = int(other.length)
    for own, theirs in zip(kept.layers, other.layers, strict=True):
        for buffer, begun in zip(own, theirs, strict=True):
            buffer[row, :, :until] = begun[0, :, :until]
    kept.length[row], kept.start[row] = other.length[0], other.start[0]
    if kept.before is not None and other.before is not None:
        kept.before[row] = other.before[0]


def tokens(num: int = 3, length: int = L, seed: int = 0) -> torch.Tensor:
    return torch.randint(V, (num, length), generator=generator(seed))


@pytest.mark.parametrize("options", [
    {},
    {"num_kv_heads": 2},
    {"tied": True},
    {"num_kv_heads": 1, "qk_norm": True, "rotary_base": 500_000.0},
])  # fmt: skip
def test_its_weights_are_those_of_llama(options: dict[str, Any]) -> None:
    """Name for name and shape for shape: nothing missing, nothing left, the same logits."""
    transformers = pytest.importorskip("transformers")
    ours = network(across_documents=True, **options)
    kind = "Qwen3" if options.get("qk_norm") else "Llama"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=V, hidden_size=32, intermediate_size=ours.layers[0].mlp.gate_proj.out_features,
        num_hidden_layers=2, num_attention_heads=4, head_dim=8, max_position_embeddings=L,
        num_key_value_heads=options.get("num_kv_heads", 4), rms_norm_eps=1e-6,
        rope_theta=options.get("rotary_base", 10_000.0),
        tie_word_embeddings=options.get("tied", False),
    )  # fmt: skip
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    state = {f"model.{k}": v for k, v in ours.state_dict().items() if k != "lm_head.weight"}
    state["lm_head.weight"] = (ours.lm_head or ours.embed_tokens).weight
    assert theirs.load_state_dict(state, strict=True)
    x = tokens()
    with torch.no_grad():
        torch.testing.assert_close(theirs(x).logits, ours(x).transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [
    {},
    {"position": "learned", "norm": "layer", "mlp": "gelu"},
    {"window": 4, "num_kv_heads": 2},
    {"ngrams": 3, "ngram_slots": 64},
    {"across_documents": True, "qk_norm": True},
])  # fmt: skip
def test_what_is_kept_gives_what_all_at_once_gives(options: dict[str, Any]) -> None:
    """Rows of different lengths go on in pieces, each at its own place."""
    ours, x, lengths = network(**options), tokens(), (2, 9, 5)
    whole = ours(x).transpose(1, 2)  # (B, L, V)
    rows = []
    for row, length in enumerate(lengths):  # each beginning alone
        kept = ours.kept(1)
        begun = ours.advance(x[row : row + 1, :length], kept)
        torch.testing.assert_close(begun[0], whole[row, :length], rtol=1e-4, atol=1e-4)
        rows.append(kept)
    kept = ours.kept(3)
    for row, own in enumerate(rows):
        put(kept, row, own)
    for i in range(L - max(lengths)):
        places = torch.tensor(lengths) + i
        new = ours.advance(x[torch.arange(3), places][:, None], kept)[:, 0]
        torch.testing.assert_close(new, whole[torch.arange(3), places], rtol=1e-4, atol=1e-4)


def test_documents_in_a_window_do_not_see_each_other() -> None:
    ours, x = network(), tokens() % (V - 1)
    x[:, 6] = V - 1
    alone = ours(x[:, 6:])
    torch.testing.assert_close(ours(x)[:, :, 6:], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(network(across_documents=True)(x)[:, :, 6:], alone, atol=1e-2)


def test_a_window_reaches_so_far_and_no_further() -> None:
    ours, x = network(window=4, num_layers=1), tokens() % (V - 1)
    before = ours(x)[:, :, 10]
    far, near = x.clone(), x.clone()
    far[:, 6], near[:, 7] = (x[:, 6] + 1) % (V - 1), (x[:, 7] + 1) % (V - 1)
    torch.testing.assert_close(ours(far)[:, :, 10], before)
    assert not torch.allclose(ours(near)[:, :, 10], before, atol=1e-3)


def test_an_encoder_does_not_look_at_padding() -> None:
    spec = TensorSpec.tokens(L, V, end=0)
    torch.manual_seed(0)
    encoder = TokenTransformer(spec, TensorSpec.vector(5), **SMALL).eval()
    x = tokens() % (V - 1) + 1
    x[:, 8] = 0
    other = x.clone()
    other[:, 9:] = 3
    torch.testing.assert_close(encoder(x), encoder(other))


def test_a_loss_in_turns_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits that are computed in turn, and again for the gradients, give the same of both."""
    ours, x, told = network(), tokens(), tokens(seed=1)
    found = []
    for most in (1 << 24, 5 * V):
        monkeypatch.setitem(MOST_LOGITS, "cpu", most)
        ours.zero_grad()
        log_p = ours.log_probs(x, told)
        log_p.sum().backward()
        found.append((log_p.detach(), [p.grad.clone() for p in ours.parameters()]))
    expected = torch.log_softmax(ours(x), 1).gather(1, told[:, None])[:, 0]
    torch.testing.assert_close(found[0][0], expected.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    real = torch.arange(x.shape[1]) < torch.arange(len(x))[:, None] + 3
    torch.testing.assert_close(ours.log_probs(x, told, real=real), log_p * real)
    among = ours.log_probs(x, told % 7, among=7)
    expected = torch.log_softmax(ours(x)[:, :7], 1).gather(1, told[:, None] % 7)[:, 0]
    torch.testing.assert_close(among, expected)


def test_rms_norm_and_its_gradients_are_those_of_the_definition() -> None:
    norm = RMSNorm(6)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6, generator=generator(0), requires_grad=True)
    again = torch.nn.functional.rms_norm(x, (6,), norm.weight, 1e-6)
    torch.testing.assert_close(norm(x), again)
    up = torch.randn(2, 3, 6, generator=generator(1))
    theirs = torch.autograd.grad(again, (x, norm.weight), up)
    torch.testing.assert_close(torch.autograd.grad(norm(x), (x, norm.weight), up), theirs)
    double = RMSNorm(6).double()
    assert torch.autograd.gradgradcheck(double, x.detach().double().requires_grad_())


def test_what_goes_on_token_by_token_may_be_in_half_precision() -> None:
    """Within a trainer's autocast, as where drawn texts are rewarded: what is kept stays wide."""
    net, x = network(), tokens()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        kept = net.kept(len(x))
        told = torch.cat([net.advance(part, kept) for part in x.split(3, dim=1)], dim=1)
        whole = net(x).mT
    assert kept.layers[0][0].dtype == torch.float32
    torch.testing.assert_close(told.float(), whole.float(), rtol=0.05, atol=0.05)
