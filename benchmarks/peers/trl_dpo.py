"""DPO of TRL, with a low-rank adapter of PEFT, for some minutes.

Pairs come as tokens, and are texts to TRL, as its users have them. Nothing of Morphogen is
imported; `judge` measures adapters of both with one program.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

WARMUP = 0.05  # share of the time


def main() -> None:
    """Train; or say how many held-out pairs adapters tell rightly."""
    options = argparse.ArgumentParser()
    options.add_argument("folder", type=Path)
    options.add_argument("--minutes", type=float)
    options.add_argument("--threads", type=int)
    options.add_argument("--rank", type=int)
    options.add_argument("--alpha", type=float)
    options.add_argument("--beta", type=float)
    options.add_argument("--lr", type=float)
    options.add_argument("--batch-size", type=int)
    options.add_argument("--judge", nargs="*", help="names of adapters")
    given = options.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    if given.judge:
        model = AutoModelForCausalLM.from_pretrained(given.folder / "base", dtype=torch.float32)
        print(json.dumps(judge(model, given)))
        return
    clock = Clock(60 * given.minutes, given.lr)
    trainer = DPOTrainer(
        model=str(given.folder / "base"),
        args=DPOConfig(
            output_dir=str(given.folder / "trl"), per_device_train_batch_size=given.batch_size,
            beta=given.beta, learning_rate=given.lr, lr_scheduler_type="constant",
            num_train_epochs=100, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
            max_length=None, disable_tqdm=True, model_init_kwargs={"dtype": "float32"},
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(texts(given.folder)),
        processing_class=AutoTokenizer.from_pretrained(given.folder / "base"),
        peft_config=LoraConfig(
            r=given.rank, lora_alpha=given.alpha, target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    trainer.model.save_pretrained(given.folder / "TRL")
    print(json.dumps({"steps": trainer.state.global_step}))


class Clock(TrainerCallback):
    """Ends a run by the clock, and lets the rate rise and fall by it."""

    def __init__(self, seconds: float, lr: float) -> None:
        self.seconds, self.lr, self.begun = seconds, lr, 0.0

    def on_train_begin(self, *args: Any, **facts: Any) -> None:
        """Time begins with training."""
        self.begun = time.perf_counter()

    def on_step_begin(self, *args: Any, optimizer: Any = None, **facts: Any) -> None:
        """The rate of this step."""
        progress = min((time.perf_counter() - self.begun) / self.seconds, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = self.lr * min(progress / WARMUP, (1 - progress) / (1 - WARMUP))

    def on_step_end(self, args: Any, state: Any, control: Any, **facts: Any) -> Any:
        """Whether it is over."""
        control.should_training_stop = time.perf_counter() - self.begun >= self.seconds
        return control


def pairs(folder: Path, name: str) -> list[dict[str, list[int]]]:
    """Of a split."""
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def texts(folder: Path) -> list[dict[str, str]]:
    """The pairs that are trained on; TRL writes the end of an answer itself."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    end = tokenizer.eos_token_id
    return [
        {
            name: tokenizer.decode([each for each in tokens if name == "prompt" or each != end])
            for name, tokens in pair.items()
        }
        for pair in pairs(folder, "trained")
    ]


@torch.no_grad()
def judge(model: Any, given: argparse.Namespace) -> dict[str, Any]:
    """The share of held-out pairs told rightly, with 95 % intervals (Wilson), of each adapter."""
    held = pairs(given.folder, "held_out")
    before = torch.tensor([margin(model.eval(), pair) for pair in held])
    found: dict[str, Any] = {"pairs": len(held)}
    for name in given.judge:
        adapted = PeftModel.from_pretrained(model, given.folder / name).eval()
        gains = torch.tensor([margin(adapted, pair) for pair in held]) - before
        model = adapted.unload()
        rightly = float((gains > 0).float().mean())
        found[name] = [rightly, *wilson(rightly, len(held)), round(float(gains.mean()), 3)]
    return found


def margin(model: Any, pair: dict[str, list[int]]) -> float:
    """log p of the chosen answer less that of the rejected one, in nats."""
    told = []
    for name in ("chosen", "rejected"):
        tokens = torch.tensor([pair["prompt"] + pair[name]])
        log_p = model(input_ids=tokens).logits[0, :-1].log_softmax(-1)
        each = log_p.gather(1, tokens[0, 1:, None])[:, 0]
        told.append(float(each[len(pair["prompt"]) - 1 :].sum()))
    return told[0] - told[1]


def wilson(share: float, num: int) -> tuple[float, float]:
    """The interval of a share."""
    z = 1.96
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * (share * (1 - share) / num + z * z / (4 * num * num)) ** 0.5
    return round(middle - half, 3), round(middle + half, 3)


if __name__ == "__main__":
    main()
