"""Codecs: how a raw item becomes a tensor, and back. One file per modality."""
