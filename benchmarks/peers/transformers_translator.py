"""A translator of `transformers` (MarianMT's architecture, from nothing) under a clock.

AdamW with a warm-up and a linear fall to zero by the clock, batches of sentences of about one
length, as its trainer groups them. Tokens come in and go out as arrays; nothing of Morphogen is
imported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

WARMUP = 0.05  # share of the time
POOL = 50  # batches within which sentences are put in the order of their lengths
IGNORED = -100  # labels that are no target


def main() -> None:
    """Train for --seconds, translate what is asked, write it with facts."""
    given = arguments()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    held = np.load(given.tokens)
    source, target, asked = (
        torch.from_numpy(held[name]).long() for name in ("source", "target", "asked")
    )
    ends = int(held["source_end"]), int(held["target_end"])
    model = build(given, ends, max(source.shape[1], target.shape[1]))
    pad, begun = model.config.pad_token_id, time.perf_counter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.lr, betas=(0.9, 0.98))
    steps = 0
    for rows in batches(lengths(target, ends[1]), given.batch_size):
        progress = (time.perf_counter() - begun) / given.seconds
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = given.lr * min(progress / WARMUP, (1 - progress) / (1 - WARMUP))
        x, y = cut(source[rows], ends[0], pad), cut(target[rows], ends[1], pad)
        labels = y.masked_fill(y == pad, IGNORED)
        loss = model(input_ids=x, attention_mask=x != pad, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    cpu = time.process_time()
    asked, decoding, made = cut(asked, ends[0], pad), {}, {}
    for beams in given.beams:
        begun = time.perf_counter()
        made[f"beam_{beams}"] = translate(model, asked, target.shape[1], ends[1], beams).numpy()
        decoding[beams] = round(time.perf_counter() - begun, 1)
    facts = {
        "steps": steps,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cpu_s": round(cpu),
        "decoding_s": decoding,
    }
    np.savez(given.out, **made, facts=json.dumps(facts))


def arguments() -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=Path, required=True, help=".npz of source, target, asked")
    parser.add_argument("--out", type=Path, required=True, help=".npz for the translations")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--encoder-layers", type=int, default=2)
    parser.add_argument("--decoder-layers", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--beams", type=int, nargs="+", default=[1])
    return parser.parse_args()


def build(given: argparse.Namespace, ends: tuple[int, int], length: int) -> Any:
    """The ends are the last tokens of the vocabularies; one more pads."""
    pad = max(ends) + 1
    heads = max(given.dim // 32, 1)
    config = MarianConfig(
        vocab_size=pad + 1, decoder_vocab_size=pad + 1, share_encoder_decoder_embeddings=False,
        d_model=given.dim, encoder_layers=given.encoder_layers, encoder_attention_heads=heads,
        decoder_layers=given.decoder_layers, decoder_attention_heads=heads,
        encoder_ffn_dim=2 * given.dim, decoder_ffn_dim=4 * given.dim, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True,
        max_position_embeddings=length + 1, pad_token_id=pad, decoder_start_token_id=pad,
        eos_token_id=ends[1], bos_token_id=None, forced_eos_token_id=None,
    )  # fmt: skip
    return MarianMTModel(config).train()


def lengths(x: Tensor, end: int) -> Tensor:
    """Tokens of each sentence (N, L) up to its end: (N,)."""
    return (x == end).int().argmax(1) + 1


def batches(sizes: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Batches of about one length, in a random order, without end."""
    while True:
        order = torch.randperm(len(sizes))
        for pool in order.split(POOL * batch_size):
            ranked = pool[sizes[pool].argsort()].split(batch_size)
            yield from (ranked[i] for i in torch.randperm(len(ranked)))


def cut(x: Tensor, end: int, pad: int) -> Tensor:
    """Sentences (B, L) without what no one of them needs, padded after their ends."""
    sizes = lengths(x, end)
    beyond = torch.arange(x.shape[1]) >= sizes[:, None]
    return x.masked_fill(beyond, pad)[:, : int(sizes.max())]


@torch.no_grad()
def translate(model: Any, asked: Tensor, length: int, end: int, beams: int) -> Tensor:
    """Translations (N, length), ends after the first; greedy ones with one beam."""
    model.eval()
    parts = []
    for x in asked.split(100):
        mask = x != model.config.pad_token_id
        made = model.generate(
            input_ids=x,
            attention_mask=mask,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=length,
        )[:, 1 : length + 1]
        made = made.masked_fill(made >= model.config.pad_token_id, end)
        parts.append(torch.nn.functional.pad(made, (0, length - made.shape[1]), value=end))
    return torch.cat(parts)


if __name__ == "__main__":
    main()
