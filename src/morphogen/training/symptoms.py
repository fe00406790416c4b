"""What ails a run, read off its log: each symptom is a judgement of numbers, and knows no family.

No loss is compared with a constant, for it may be in any unit and of either sign. The scales are
the run's own: `spread`, how much the loss differs between items before training, and `gained`, how
far the loss has come down since. Losses are those of the probe (`training.probe`): always of the
same items with the same draws, so that they move only when the weights do.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from morphogen.core.family import HealthyRange
from morphogen.training.options import TrainOptions

RECENT = 12  # values of each name that are kept
SETTLED, FEWEST_STEPS = 0.08, 100  # share of the run and steps after which much is judged
NO_CHANGE = 1e-5  # relative change of the weights between probes that is none
GAIN = 0.01  # of the spread: less than this is no progress
CLIPPED_BY = 30  # times the limit: as far above it the gradient's norm has to stay
FEW_PROBES = 6  # probes over which oscillation is judged
UNPAID = "same rewards"
UNPAID_HINT = (
    "read the draws that follow: is the prompt one that the model understands? Then a reward that "
    "also pays for a part of what you want (objective.reward=module:function), easier prompts, "
    "more draws (--set objective.group_size=16), or first some examples to learn from, without "
    "--objective"
)
EXPLAIN = EXPLODING, STALLED = "exploding loss", "stalled loss"  # they explain others away


@dataclass
class Track:
    """One logged value: where it began, its lowest, the latest few. Bounded, however long a run."""

    first: float | None = None
    best: float = math.inf
    best_step: int = 0
    latest_at: float = 0.0  # share of the run
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, value: float, step: int, progress: float) -> None:
        """Take in the next value."""
        self.latest_at = progress
        self.first = value if self.first is None else self.first
        if value < self.best:
            self.best, self.best_step = value, step
        self.recent.append(value)

    def middle(self, num: int) -> float:
        """The median of the latest `num`: one odd value does not move it."""
        return median(list(self.recent)[-num:])


class History:
    """What the symptoms are read from: the tracks so far and the values of the log just seen."""

    def __init__(self, options: TrainOptions, usual_lr: float) -> None:
        self.options, self.usual_lr = options, usual_lr
        self.tracks: dict[str, Track] = defaultdict(Track)
        self.now: Mapping[str, float] = {}
        self.step, self.progress, self.stage = 0, 0.0, 0.0
        self.seen_at_best = math.inf  # the training items' loss when the held-out loss was lowest

    def add(self, values: Mapping[str, float], step: int, progress: float) -> None:
        """Take in one log."""
        self.now, self.step, self.progress = values, step, progress
        stage = values.get("stage", 0.0) if "seen_loss" in values else self.stage
        if stage != self.stage:  # other weights are trained, to another loss: compare anew
            self.stage = stage
            for name in ("seen_loss", "held_out_loss", "loss_spread"):
                self.tracks.pop(name, None)
        held_out_best = self.tracks["held_out_loss"].best
        for name, value in values.items():
            self.tracks[name].add(value, step, progress)
        if values.get("held_out_loss", math.inf) < held_out_best:
            self.seen_at_best = values.get("seen_loss", math.inf)

    @property
    def is_settled(self) -> bool:
        """Whether the run has left its beginning, where healthy runs look ill."""
        return self.progress >= SETTLED and self.step >= FEWEST_STEPS

    @property
    def spread(self) -> float:
        """The standard deviation between items of the loss before training; 0 when unknown."""
        return self.tracks["loss_spread"].first or 0.0

    def gained(self, name: str) -> float:
        """How far a loss has come down from where it began."""
        track = self.tracks[name]
        return (track.first or 0.0) - track.best


@dataclass(frozen=True)
class Finding:
    """A judgement: `ill` True, False, or None for neither one nor the other."""

    ill: bool | None
    found: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Symptom:
    """A kind of trouble, and how it is recognised.

    `judge` gives None when the log holds no new evidence. An alarm needs `count` ill findings in a
    row that together span `span` of the run.
    """

    kind: str
    message: str
    judge: Callable[[History], Finding | None]
    count: int = 2
    span: float = 0.0
    silenced_by: tuple[str, ...] = ()  # kinds that explain it while they sound


def out_of_range(part: str, healthy: HealthyRange) -> Symptom:
    """A part of the loss has left the range that its family declares."""

    def judge(history: History) -> Finding | None:
        if part not in history.now or not history.is_settled:
            return None
        value = history.tracks[part].middle(5)
        inside = healthy.low <= value <= healthy.high
        limit = f"above {healthy.low:g}" if value < healthy.low else f"below {healthy.high:g}"
        return Finding(not inside, f"{part} {value:.3g}, healthy {limit}", healthy.hint)

    return Symptom(healthy.kind, healthy.means, judge, count=3, span=0.04)


def constant_data(history: History) -> Finding | None:
    """The training items do not differ."""
    if "data_diversity" not in history.now:
        return None
    differ = history.now["data_diversity"] > 0
    return Finding(not differ, "all probed training items are equal", "morphogen inspect DATA")


def exploding(history: History) -> Finding | None:
    """The loss is worse than that of the untrained model."""
    if "seen_loss" not in history.now:
        return None
    seen, now = history.tracks["seen_loss"], history.now["seen_loss"]
    first = now if seen.first is None else seen.first
    scale = max(history.spread, history.gained("seen_loss"))
    # At the beginning a healthy run may overshoot, but not by far.
    allowed = (0.5 if history.is_settled else 5.0) * scale
    ill = not math.isfinite(now) or now > first + allowed
    calm = now < first + 0.1 * scale
    found = f"loss {now:.4g}, {first:.4g} before training"
    return Finding(True if ill else False if calm else None, found, _lower_rate(history, 10))


def stalled(history: History) -> Finding | None:
    """The weights stand still, or the loss does not fall although they move."""
    warm = max(SETTLED, 3 * history.options.warmup)
    if "weight_change" not in history.now or not warm <= history.progress <= 0.97:
        return None
    change = history.tracks["weight_change"].middle(2)
    if change < NO_CHANGE:
        norms = [v for name, v in history.now.items() if name.endswith("grad_norm")]
        if norms and max(norms) == 0:
            return Finding(True, "gradient 0", "--set backbone.name=mlp, or --set train.seed=1")
        lr = max(history.usual_lr, 10 * history.options.lr)
        return Finding(True, f"weights change by {change:.1g}", f"--set train.lr={lr:g}")
    if "seen_loss" not in history.now or not history.spread or not history.is_settled:
        return Finding(False)
    seen = history.tracks["seen_loss"]
    gained = (seen.first or 0.0) - seen.middle(2)
    if gained >= 2 * GAIN * history.spread:
        return Finding(False)
    found = f"loss {seen.middle(2):.4g}, {seen.first:.4g} before training"
    low = history.options.lr < 0.1 * history.usual_lr
    hint = f"--set train.lr={history.usual_lr:g}" if low else _lower_rate(history, 3)
    # Far worse than at the start is another matter: `exploding`.
    ill = history.gained("seen_loss") < GAIN * history.spread and gained > -0.5 * history.spread
    return Finding(True if ill else None, found, hint)


def over_training(history: History) -> Finding | None:
    """Items never trained on get worse while training items get better; where the best weights are
    kept, that does no harm."""
    known = "held_out_loss" in history.now and "seen_loss" in history.now
    if not known or history.options.keep_best:
        return None
    held, seen = history.tracks["held_out_loss"], history.tracks["seen_loss"]
    gained = max(history.gained("held_out_loss"), 0.5 * history.spread)
    rise = held.middle(2) - held.best
    better = seen.middle(2) < history.seen_at_best
    ill = better and rise > 0.25 * gained > 0
    calm = rise < 0.1 * gained
    found = f"held-out loss {held.middle(2):.4g}, {held.best:.4g} at step {held.best_step}"
    best = "--set train.keep_best=0.1"
    smaller = "--set backbone.model_dim=16"  # it was never better than before the first step
    hint = f"{best if held.best_step else smaller}, or more training data"
    return Finding(True if ill else False if calm else None, found, hint)


def oscillating(history: History) -> Finding | None:
    """The loss goes up and down by more than it ever gained."""
    seen = list(history.tracks["seen_loss"].recent)[-FEW_PROBES:]
    if "seen_loss" not in history.now or len(seen) < FEW_PROBES:
        return None
    path = sum(abs(after - before) for before, after in pairwise(seen))
    net = abs(seen[-1] - seen[0])
    scale = max(history.gained("seen_loss"), 0.5 * history.spread)
    ill = path > scale > 0 and path > 3 * net
    calm = path < 0.5 * scale
    found = f"the loss went up and down by {path:.3g} and came {net:.3g} further"
    return Finding(True if ill else False if calm else None, found, _lower_rate(history, 10))


def always_clipped(history: History) -> Finding | None:
    """The gradient is cut at every step, by much."""
    names = [name for name in history.now if name.endswith("clipped")]
    if not names or not history.is_settled:
        return None
    share, name = max((history.tracks[name].middle(9), name) for name in names)
    norm = history.tracks[name.replace("clipped", "grad_norm")].middle(9)
    clip = history.options.grad_clip
    # Being clipped is no harm in itself: it is common in runs that learn well.
    ill = share >= 1 and norm > CLIPPED_BY * clip
    found = f"gradient norm {norm:.3g}, clipped at {clip:g}"
    hint = f"--set train.grad_clip={2 * norm:.2g}, or {_lower_rate(history, 3)}"
    return Finding(True if ill else False if share < 0.9 else None, found, hint)


def starved(history: History) -> Finding | None:
    """Most of a step is spent waiting for its batch."""
    if "data_wait" not in history.now:
        return None
    share = history.tracks["data_wait"].middle(7)
    hint = "copy the data to a local disk, or --set train.batch_size="
    hint += str(max(1, history.options.batch_size // 2))
    ill = True if share > 0.5 else False if share < 0.35 else None
    return Finding(ill, f"{share:.0%} of the time", hint)


def rolling_back(history: History) -> Finding | None:
    """NaN came back after a rollback."""
    if "rollbacks" in history.now:
        number = int(history.now["rollbacks"])
        return Finding(number >= 2, f"{number} rollbacks", _lower_rate(history, 10))
    calm = history.progress - history.tracks["rollbacks"].latest_at > 0.2
    return Finding(False) if calm else None


def collapsed(history: History) -> Finding | None:
    """Samples are more alike than items of the data are, by far."""
    if "sample_diversity" not in history.now or not history.is_settled:
        return None
    ratio = history.now["sample_diversity"]
    found = f"samples {ratio:.2g} times as far from each other as training items"
    ill = True if ratio < 0.05 else False if ratio > 0.1 else None
    return Finding(ill, found, _lower_rate(history, 3))


def labels_ignored(history: History) -> Finding | None:
    """The loss is the same with wrong labels."""
    if "label_effect" not in history.now:
        return None
    effect = history.now["label_effect"]
    found = f"wrong labels change the loss by {effect:.1g} of its spread"
    ill = True if effect < 1e-4 else False if effect > 1e-3 else None
    return Finding(ill, found, "--set family.drop_prob=0.1")


def unpaid(history: History) -> Finding | None:
    """Every draw so far was worth the same, so that none is better than its like."""
    if "told_apart" not in history.now:
        return None
    apart, reward = history.tracks["told_apart"], history.tracks["reward"]
    same = not any(apart.recent) and apart.first == 0 and reward.best == reward.middle(1)
    found = f"reward {reward.middle(1):.3g} for every draw since the first step"
    return Finding(same, found, UNPAID_HINT)


def _lower_rate(history: History, factor: float) -> str:
    return f"--set train.lr={history.options.lr / factor:.2g}"


SYMPTOMS: tuple[Symptom, ...] = (
    Symptom("constant data", "the training items do not differ", constant_data, count=1),
    Symptom(EXPLODING, "the model is worse than before training", exploding),
    Symptom(STALLED, "nothing has been learned since the start", stalled, silenced_by=(EXPLODING,)),
    Symptom("over-training", "it learns the training items by heart", over_training),
    Symptom(
        "oscillating loss", "the learning rate is too high", oscillating, silenced_by=(EXPLODING,)
    ),
    Symptom("clipped gradients", "every step is cut short", always_clipped, 5, 0.08, (EXPLODING,)),
    Symptom("data starvation", "training waits for data", starved, count=7, span=0.02),
    Symptom("repeated rollbacks", "NaN comes back", rolling_back, count=1),
    Symptom("mode collapse", "samples are all alike", collapsed, 1, 0.0, EXPLAIN),
    Symptom(
        "labels ignored",
        "labels make no difference to the model",
        labels_ignored,
        silenced_by=EXPLAIN,
    ),
    Symptom(
        UNPAID,
        "nothing is learned, since only draws that are worth more than others of their prompt teach"
        " anything",
        unpaid,
        count=3,
    ),
)
