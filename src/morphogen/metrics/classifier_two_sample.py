r"""Classifier two-sample test: how often can generated items be told from real ones?

    score = 1/2n sum_i [ c_{-fold(i)}(x_i) = was x_i generated? ]

c_{-f} is a classifier fitted without fold f, so that every item is judged by one that has not seen
it. 0.5 is best: no better than a coin, whose deviation is 1 / (2 sqrt(2n)), or half as much again
when items are few. 1 says that every item gives itself away. Lopez-Paz & Oquab 2017.

It is as sharp as its classifier: a lower bound of what the best one could tell. Four are tried in
each fold, and the one that does best on a quarter of the fold's training items is fitted on all of
them. Logistic regression sees means; quadratic discriminant analysis sees covariances and nearest
neighbours see clusters, both over principal components of variance 1; boosted trees see the shapes
of single features and of how they go together.

Lower is better down to 0.5. A score well below it is an alarm and no success: generated items are
near copies of reference items, whose label misleads the classifier. Sets of unequal size are
thinned at random to the smaller one.

Legend: n items of each set, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from morphogen.core.errors import MeasurementError
from morphogen.core.metric import Features, scores
from morphogen.core.random import generator as seeded
from morphogen.core.random import randint
from morphogen.metrics._parts import check_informative, shuffled

CHANCE = 0.5  # the best score
FEWEST = 20  # of each set: fewer leave nothing to choose a classifier by


def binomial_error(accuracy: float, n: int) -> float:
    """Standard error of an accuracy on n items of either set."""
    return math.sqrt(max(accuracy * (1 - accuracy), 0.25 / n) / (2 * n))


def copies(sets: Features, high: float) -> str:
    """Say so where the score is certainly below what no classifier at all would reach."""
    if high >= CHANCE:
        return ""
    return (
        "below chance: generated items are so near to single held-out ones that these mislead "
        "the classifier. Look for copies of held-out items in what the model was trained on"
    )


@scores(standard_error=binomial_error, caution=copies, classifier_two_sample=False)
def classifier_two_sample(
    sets: Features,
    *,
    generator: torch.Generator | None = None,
    num_folds: int = 5,  # parts that are held out in turn
) -> Mapping[str, float]:
    """Held-out accuracy of a classifier between generated and real items; 0.5 is best."""
    check_informative(sets, fewest=FEWEST)
    both = (sets.generated, sets.reference)
    n = min(map(len, both))
    if not 2 <= num_folds <= n:
        raise MeasurementError(
            "the items cannot be dealt into so many folds",
            found=f"num_folds={num_folds}, {n} items of each set",
            expected=f"2 to {n} folds",
        )
    generator = generator or seeded(0)
    thinned = [shuffled(x, generator)[:n].double() for x in both]
    seed = int(randint(2**31 - 1, (1,), generator))
    return {"classifier_two_sample": _accuracy(torch.cat(thinned), num_folds, seed)}


def _accuracy(x: Tensor, num_folds: int, seed: int) -> float:
    """Share of held-out items that are told right; the first half of x was generated."""
    import numpy as np
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    items = x.cpu().numpy()
    generated = np.arange(len(items)) < len(items) // 2

    def told_right(fold: tuple[Any, Any]) -> int:
        """How many of the items that were held out; OpenMP's threads are counted by thread."""
        rest, held_out = fold
        with threadpool_limits(1, user_api="openmp"):
            classifier = _best_classifier(len(rest), items.shape[1], seed)
            classifier.fit(items[rest], generated[rest])
            return int((classifier.predict(items[held_out]) == generated[held_out]).sum())

    # Much of a fit is one thread's work, so that folds side by side gain more than threads in each.
    folds = StratifiedKFold(num_folds).split(items, generated)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return sum(pool.map(told_right, folds)) / len(items)


def _best_classifier(num_items: int, num_features: int, seed: int) -> Any:
    """Four classifiers as one, which chooses between them when it is fitted."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    # A covariance needs several items for each direction.
    num_components = max(1, min(num_features, num_items // 5))
    scale = StandardScaler()
    whiten = PCA(num_components, whiten=True, svd_solver="covariance_eigh")
    steps = [
        (scale, LogisticRegression(max_iter=1000)),
        (whiten, QuadraticDiscriminantAnalysis(reg_param=0.1)),
        (whiten, KNeighborsClassifier(int(num_items**0.5))),
        (scale, HistGradientBoostingClassifier(max_iter=50, learning_rate=0.15, random_state=seed)),
    ]
    return GridSearchCV(
        Pipeline([("scale", scale), ("classifier", steps[0][1])]),
        [{"scale": [before], "classifier": [classifier]} for before, classifier in steps],
        cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=seed),
        error_score="raise",
    )
