"""What is said of items, as the items: texts, each given the sound that it was said in.

    read as sounds     item  a sound,             said of it  a caption, or a label
    turned round       item  that text,           said of it  the sound, by the name of its modality

So a source of sounds with their texts is learned in either direction: speech from text, as it is
read, and text from speech, with `--modality text --set modality.given=sound`.
"""

from __future__ import annotations

from collections.abc import Iterator

from morphogen.core.codec import Codec, Item, Problem, Report
from morphogen.core.errors import DataError
from morphogen.data.modality import Read, build_codec

TEXTS = ("caption", "label")  # where the text stands, the first that is there


def turned(read: Read, given: str | None) -> Read:
    """The same reading by the codec `given`, of the texts that are said of what it reads."""
    if given is None:
        return read

    def reading(codec: Codec, report: Report) -> Iterator[Item]:
        found = 0
        for item in read(build_codec(given, {}), report):
            name = next((each for each in TEXTS if item.cond.get(each) is not None), None)
            if name is None:
                reason, fix = "nothing is said of it", "a caption or a label, or leave it out"
                report.problems.append(Problem(item.name, reason, fix, fatal=True))
                continue
            found += 1
            said = {key: value for key, value in item.cond.items() if key != name}
            text = str(item.cond[name])
            yield Item(text, item.name, {**said, given: item.value}, item.split, item.tags)
        if not found:
            raise DataError(
                f"nothing is said of any {given} in the source",
                expected=f"a text for each: {', '.join(TEXTS)}",
                where=report.source,
                hint="captions.csv, folders of classes, or --set modality.file_names={label}_{}",
            )

    return reading
