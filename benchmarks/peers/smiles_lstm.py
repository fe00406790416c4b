"""A SMILES LSTM in the setting of MOSES' CharRNN (Polykovskiy et al. 2020), under a clock.

Three layers of 768, dropout 0.2, characters embedded as wide as there are of them, Adam at 1e-3,
batches of 64, a character a token. Lines of SMILES come in, lines of SMILES go out; nothing of
Morphogen is imported.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

HIDDEN, LAYERS, DROPOUT, LR, BATCH = 768, 3, 0.2, 1e-3, 64
PAD, BEGIN, END = range(3)
LONGEST, AT_ONCE = 120, 500


class CharRNN(nn.Module):
    """Characters to what follows each."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num, num, padding_idx=PAD)
        self.lstm = nn.LSTM(num, HIDDEN, LAYERS, dropout=DROPOUT, batch_first=True)
        self.head = nn.Linear(HIDDEN, num)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, L), (B,) -> (B, L, V)."""
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(h)

    @torch.no_grad()
    def sample(self, num: int) -> list[list[int]]:
        """Characters by number, up to the end."""
        token = torch.full((num, 1), BEGIN)
        drawn, state = [], None
        for _ in range(LONGEST):
            h, state = self.lstm(self.embed(token), state)
            token = torch.multinomial(self.head(h[:, 0]).softmax(1), 1)
            drawn.append(token)
        rows = torch.cat(drawn, 1).tolist()
        return [row[: row.index(END)] if END in row else row for row in rows]


def main() -> None:
    """Train for --seconds, draw --num molecules, write them and the facts."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--train", type=Path, required=True, help="a SMILES a line")
    options.add_argument("--out", type=Path, required=True, help=".smi, and .json beside it")
    options.add_argument("--seconds", type=float, required=True)
    options.add_argument("--num", type=int, default=10_000)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    smiles = given.train.read_text().split()
    signs = sorted(set("".join(smiles)))
    number = {sign: i + 3 for i, sign in enumerate(signs)}
    items = [torch.tensor([BEGIN, *(number[s] for s in each), END]) for each in smiles]
    model = CharRNN(len(signs) + 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    steps, total, begun = 0, 0.0, time.perf_counter()
    while time.perf_counter() - begun < given.seconds:
        for rows in torch.randperm(len(items)).split(BATCH):
            batch = sorted((items[i] for i in rows.tolist()), key=len, reverse=True)
            lengths = torch.tensor([len(each) - 1 for each in batch])
            x = pad_sequence([each[:-1] for each in batch], batch_first=True)
            y = pad_sequence([each[1:] for each in batch], batch_first=True)
            loss = nn.functional.cross_entropy(
                model(x, lengths).flatten(0, 1), y.flatten(), ignore_index=PAD
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps, total = steps + 1, loss.item()
            if time.perf_counter() - begun >= given.seconds:
                break
    cpu = time.process_time()
    model.eval()
    drawn: list[str] = []
    while len(drawn) < given.num:
        some = model.sample(min(AT_ONCE, given.num - len(drawn)))
        drawn += ["".join(signs[i - 3] for i in row if i > END) for row in some]
    given.out.write_text("".join(f"{each}\n" for each in drawn))
    facts = {"steps": steps, "last_loss": round(total, 4), "cpu_s": round(cpu),
             "sampling_s": round(time.process_time() - cpu)}  # fmt: skip
    given.out.with_suffix(".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
