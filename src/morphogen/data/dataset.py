"""A source as encoded, split, hashed data: `load`, and what it gives, `Data`.

How the items come from the source into the stores is told in `encoding.py`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from morphogen.core import discover
from morphogen.core.augment import CanAugment, augmenting
from morphogen.core.codec import Codec, Item, Report
from morphogen.core.errors import DataError, RecipeError
from morphogen.core.following import ShowsCopies
from morphogen.core.schema import check_options
from morphogen.core.storage import at_home
from morphogen.data.canaries import Canaries, plant
from morphogen.data.conditions import facts_of, having, priors_of
from morphogen.data.encoding import encode, reader, recoded
from morphogen.data.listing import listing
from morphogen.data.modality import Read, build_codec, find_modality, recognitions
from morphogen.data.places import IN_MEMORY, SCAN, name_of
from morphogen.data.scan import Scan
from morphogen.data.store import Store, Varied, digest_stores
from morphogen.data.views import Suits, choose_view, view_of
from morphogen.sources import Labelled


@dataclass
class Data:
    """A source, encoded: what `train` and `evaluate` take."""

    codec: Codec
    train: Store
    test: Store
    report: Report
    source: str = ""
    digest: str = ""
    priors: dict[str, list[float]] = field(default_factory=dict)  # label -> class frequencies
    files: dict[str, str] = field(default_factory=dict)  # file -> hash of what was read from it
    options: dict[str, Any] = field(default_factory=dict)  # of `load`, other than the codec's
    canaries: Canaries | None = None  # planted in the training split, see `plant`
    read: Read | None = field(default=None, repr=False)  # its items once more, to encode otherwise

    @property
    def spec(self) -> Any:
        """What one encoded item looks like."""
        return self.codec.spec

    @property
    def conditions(self) -> dict[str, Any]:
        """What each named condition looks like."""
        known = self.codec.conditions
        return {name: spec for name, spec in known.items() if name in self.train.cond}

    @classmethod
    def from_tensors(
        cls,
        x: Any,
        labels: Any = None,
        modality: str | None = None,
        *,
        test: Any = None,
        test_labels: Any = None,
        codec: Codec | None = None,
        group_by: str | None = None,
        synthetic: Literal["hold_out", "include"] = "hold_out",
        file_names: str | None = None,
        given: str | None = None,
        view: str | None = None,
        suits: Suits | None = None,
        conditions: str | None = None,
        **options: Any,
    ) -> Data:
        """What lies in memory: an array or tensor, such as pictures (N, H, W), (N, H, W, C) or
        (N, C, H, W), a DataFrame, a list of dicts or of texts.

        `options` are the codec's; a fitted `codec` is used as it is; `group_by`, `synthetic`,
        `file_names`, `given`, `view` and `suits` are those of `load`. Without `test`, a tenth is
        held out; a number is the codec's own option of that name, where it has one.
        """

        if isinstance(test, (float, str)):  # no items: the share that a codec is to hold out
            options, test = options | {"test": test}, None
        parts = [Labelled(x, labels, None if test is None else "train")]
        parts += [] if test is None else [Labelled(test, test_labels, "test")]

        def read(codec: Codec, report: Report) -> Iterator[Item]:
            return codec.read(parts, report)

        scan = Scan(group_by=group_by, synthetic=synthetic, file_names=file_names, given=given)
        if codec is None and modality is None:  # what nobody knows is told the shapes of pictures
            modality = find_modality(parts) if recognitions(parts) else "image"
        used = codec or build_codec(modality or "image", options)
        return _load(
            used, read, Report(IN_MEMORY), scan, fitted=codec is not None, view=view, suits=suits,
            conditions=conditions,
        )  # fmt: skip

    def about(self) -> dict[str, Any]:
        """What a bundle records of the data it was trained on, as JSON."""
        return {
            "source": name_of(self.source),
            "digest": self.digest,
            "options": self.options,
            "num_train": len(self.train),
            "num_test": len(self.test),
            "num_skipped": len(self.report.skipped),
            "tags": self.report.facts.get("tags", {}),
        }

    def through(self, codec: Any) -> Data:
        """The same items as latents of a trained model, or as what it sees in them: `codec` is a
        `LatentCodec` or a `FeatureCodec` around this data's codec, fitted or not. Raises
        `DataError` when its model is for other data."""
        if codec.inner.spec != self.spec:
            raise DataError(
                "the model whose latents are asked for was trained on other data",
                found=str(self.spec),
                expected=str(codec.inner.spec),
                where=self.source,
                hint="train it on this data, or read the data with the same size and mode",
            )
        # Codes are of the items alone: what is said of them is what this data has learned to read.
        said, known = self.codec.condition_codecs, codec.condition_codecs
        if said is not known:
            known.clear()
            known.update(said)
        digest = f"{self.digest}-{codec.digest}"
        num_copies = codec.num_copies(len(self.train)) if isinstance(codec, ShowsCopies) else 0
        seen = [recoded(self.train, codec.spec, codec.recoded, f"{digest}-train")]
        for number in range(num_copies):
            change = partial(codec.changed, number=number)
            name = f"{digest}-{codec.variation}-{number}"
            seen.append(recoded(self.train, codec.spec, change, name))
        if not codec.is_fitted:  # then they are latents as the model gives them
            codec.measure(chunk for each in seen for chunk in each.chunks())
            seen = [
                recoded(x, codec.spec, partial(map, codec.standardised), f"{digest}-measured-{k}")
                for k, x in enumerate(seen)
            ]
        train = seen[0]
        if (able := augmenting(self.codec, self.conditions)) is not None:
            seen[:1] = [
                recoded(self.train, codec.spec, partial(_varied, codec, able, k), f"{digest}-{k}")
                if k != able.as_it_is
                else train
                for k in range(able.variants)
            ]
        train = train if len(seen) == 1 else Varied(train, seen)
        test = recoded(self.test, codec.spec, codec.recoded, f"{digest}-test")
        # The digest is the items' and the model's: latents differ in the last bit between machines.
        return replace(self, codec=codec, train=train, test=test, digest=digest, canaries=None)

    def in_view(self, view: str) -> Data:
        """The same items in another of the codec's encodings. Raises `RecipeError` for a view that
        there is not, `DataError` where the items cannot be read again."""
        return self._encoded_by(view_of(self.codec, view))

    def suited(self, suits: Suits) -> Data:
        """The same items in the first view that `suits` (a family's `refusal`) has nothing against;
        where there is none, as they are."""
        return self._encoded_by(choose_view(self.codec, None, suits))

    def _encoded_by(self, codec: Codec) -> Data:
        """The items as `codec` encodes them: this data's, or one in another view."""
        if codec is self.codec:
            return self
        if self.canaries is not None or (self.read is None and codec.inner is not self.codec):
            raise DataError(
                f"this data cannot be encoded in another view: {codec.view}",
                found="canaries" if self.canaries is not None else "no source to read again",
                expected=f"the view {self.codec.view}",
                where=self.source,
                hint="load(source, view=...) chooses it before",
            )
        if codec.inner is self.codec:
            return self.through(codec)
        assert self.read is not None
        if codec.inner is not None:
            return self._encoded_by(codec.inner).through(codec)
        scan = Scan(**{name: self.options[name] for name in SCAN if name in self.options})
        data = _load(codec, self.read, Report(self.source), scan, fitted=True)
        return data if self.train.cond or not data.train.cond else data.unconditional()

    def having(self, names: Iterable[str]) -> Data:
        """The items of which all of `names` are said: what a model needs that cannot do without."""
        named = [name for name in names if name in self.conditions]
        train, test = (having(each, named, self.conditions) for each in (self.train, self.test))
        if train is self.train and test is self.test:
            return self
        return replace(self, train=train, test=test, priors=priors_of(self.codec, train.cond))

    def unconditional(self) -> Data:
        """The same items with nothing said of them: no labels, no captions."""
        train, test = self.train.with_cond({}), self.test.with_cond({})
        return replace(self, train=train, test=test, priors={})

    def facts(self) -> dict[str, Any]:
        """What there is to say about the data, as JSON."""
        said = facts_of(self.codec, self.train.cond)
        return {
            "source": self.source,
            "modality": discover.name_of(type(self.codec)),
            "spec": str(self.spec),
            "conditions": {name: str(spec) for name, spec in self.conditions.items()},
            "num_train": len(self.train),
            "num_test": len(self.test),
            "num_skipped": len(self.report.skipped),
            "classes": {name: fact for name, fact in said.items() if isinstance(fact, dict)},
            "said": {name: fact for name, fact in said.items() if not isinstance(fact, dict)},
            "digest": self.digest,
            **self.report.facts,
        }


def _varied(codec: Any, able: CanAugment, number: int, batches: Iterator[Any]) -> Iterator[Any]:
    """Batches that `able` encoded, seen in one of its ways, as `codec` encodes them."""
    share = (number + 0.5) / able.variants
    return codec.recoded(able.augmented(x, torch.full((len(x),), share)) for x in batches)


def load(
    source: Any,
    modality: str | None = None,
    *,
    codec: Codec | None = None,
    group_by: str | None = None,  # what stays on one side: a column, or a pattern of file names
    synthetic: Literal["hold_out", "include"] = "hold_out",  # items that a model made
    file_names: str | None = None,  # what names of items say: "{label}_{speaker}_{take}"
    given: str | None = None,  # learn texts, given what they are said of: "sound"
    canaries: int = 0,  # made-up items planted once, as many 4, 16 and 64 times
    view: str | None = None,  # one of the codec's encodings; none: the first that fits the family
    suits: Suits | None = None,  # what the family has against a spec, see `data.views`
    conditions: str | None = None,  # what is learned with the items: "label,caption", all, none
    **codec_options: Any,
) -> Data:
    """Read a folder, file, dataset name, array or tensor into encoded train and test splits.

    The modality is found by asking each codec; a fitted `codec` (a bundle's) is used as it is.
    Items that cannot be used are listed in `Data.report.problems`; raises `DataError` when fewer
    than two, or less than half, can be used. What `group_by` (a column of the table, or a regular
    expression on file names) calls the same stays on one side of the split. Items that a model made
    are held out, unless `synthetic` is "include". `file_names` is a pattern by which names of items
    say their labels, splits and tags (see `data.file_names`). With `canaries`, so many items are
    made up and planted in the training split once, as many 4, 16 and 64 times (see
    `data.canaries`). With `given`, the texts that are said of items of that modality are learned,
    given those (see `data.turned`). Where a codec offers several encodings, that called `view` is
    used, else the first that `suits`. `conditions` names what is said of the items and learned with
    them; none named, the labels.
    """
    asked = {"group_by": group_by, "synthetic": synthetic, "canaries": canaries, "view": view}
    asked |= {"conditions": conditions or given, "file_names": file_names, "given": given}
    reading = check_options(load, asked, "modality")  # settings come as text
    num, view, chosen = (reading.pop(name) for name in ("canaries", "view", "conditions"))
    if given is not None and modality is None:
        modality = "text"
    if codec is not None and not isinstance(codec, Codec):
        raise RecipeError(
            "a codec is that of a bundle or of data", found=f"codec={reprlib.repr(codec)}",
            hint="codec=bundle.codec, or modality=NAME for one that is fitted to what is read",
        )  # fmt: skip
    if codec is not None and codec.inner is not None:  # read with the codec inside, then encode
        return load(source, codec=codec.inner, canaries=num, **reading).through(codec)
    if num:
        about = {"codec": codec, "view": view, "suits": suits, "conditions": chosen}
        about |= reading | codec_options
        planted = plant(load(source, modality, **about), num=num)
        return replace(planted, options=planted.options | {"canaries": num})
    if not isinstance(source, (str, Path)):
        about = {"codec": codec, "view": view, "suits": suits, "conditions": chosen}
        about |= reading | codec_options
        return Data.from_tensors(source, modality=modality, **about)
    source = at_home(source)
    scan, report = Scan(**reading), Report(str(source))
    if codec is not None:
        find_modality(source)  # raises when there is nothing to read
        return _load(codec, reader(source), report, scan, fitted=True, view=view)
    return load_into(
        source, modality, codec_options, report, scan, view=view, suits=suits, conditions=chosen
    )


def load_into(
    source: Path | str,
    modality: str | None,
    options: Mapping[str, Any],
    report: Report,
    scan: Scan,
    *,
    view: str | None = None,
    suits: Suits | None = None,
    conditions: str | None = None,
) -> Data:
    """`load`, leaving in `report` and `scan` what was found even when it raises."""
    codec = build_codec(modality or find_modality(source, report), options)
    return _load(codec, reader(source), report, scan, view=view, suits=suits, conditions=conditions)


def _load(
    codec: Codec,
    read: Read,
    report: Report,
    scan: Scan,
    *,
    fitted: bool = False,
    view: str | None = None,
    suits: Suits | None = None,
    conditions: str | None = None,
) -> Data:
    """The data that the road ends in."""
    found = encode(
        codec, read, report, scan, fitted=fitted, view=view, suits=suits, conditions=conditions
    )
    digest = digest_stores(found.codec.spec, {"train": found.train, "test": found.test})
    data = Data(found.codec, found.train, found.test, report, report.source, digest)
    data.files, data.priors, data.read = listing(scan, report.source), found.priors, read
    data.options = {name: getattr(scan, name) for name in SCAN}
    if conditions is not None:
        data.options["conditions"] = conditions
    return data if found.around is None else data.through(found.around)
