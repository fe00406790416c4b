"""Whether a file says of itself that a model made it, by its bytes alone.

C2PA manifests and XMP name the kind of source by its address in the vocabulary of the IPTC, which
stands in the file as it is. No signature is checked: who marks something as synthetic is believed,
as with every other tag. `credentials.read` is for those who ask further.
"""

from __future__ import annotations

VOCABULARY = b"iptc.org/newscodes/digitalsourcetype/"
KINDS = {  # of what a model made, or took part in
    b"trainedAlgorithmicMedia": "a trained model",
    b"compositeWithTrainedAlgorithmicMedia": "people and a trained model",
    b"compositeSynthetic": "a composition of synthetic parts",
    b"trainedAlgorithmicData": "a trained model",
}
LONGEST = max(map(len, KINDS)) + 1


def said_by(data: bytes) -> dict[str, str]:
    """Tags of what the file says: that it is synthetic, and by whom; empty where it says
    nothing."""
    place = data.find(VOCABULARY)
    while place >= 0:
        start = place + len(VOCABULARY)
        word = data[start : start + LONGEST]
        for kind, maker in KINDS.items():
            if word.startswith(kind) and not word[len(kind) : len(kind) + 1].isalpha():
                return {"synthetic": "yes", "generator": f"{maker}, by its credentials"}
        place = data.find(VOCABULARY, start)
    return {}
