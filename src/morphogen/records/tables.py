"""Every table of the records, and which of their columns are encrypted.

Plain are numbers, times, states, names of components and names that an administrator chose (of
models, datasets, templates, keys). All else is `Sealed`: prompts, answers, names of people, places
of files, parameters, recipes, scores. Hashes of contents are keyed (see `sealing`), so that nobody
who lacks the key can test a guess. Times are seconds since 1970.

    users -< api_keys (-< quotas, spent), sign_ins, data_keys, audit, made
    fragments -< prompt_parts >- prompts (a tree) -< generations -< annotations, artefacts, words
    datasets -< runs -< models -< evaluations, generations -< dataset_pairs >- datasets -< deeds
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows itself for INTEGER alone
Sealed = LargeBinary
KEYED = 32  # bytes of a keyed hash


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map = {
        int: BigInteger().with_variant(Integer, "sqlite"),
        bytes: LargeBinary,
        dict[str, Any]: JSON,
    }


def _reference(column: str, *, gone: str = "SET NULL", index: bool = True) -> Any:
    return mapped_column(Id, ForeignKey(column, ondelete=gone), index=index)


# -- people --------------------------------------------------------------------------------------


class User(Base):
    """A person, or a program that acts as one."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    blind: Mapped[bytes | None] = mapped_column(LargeBinary(KEYED), unique=True)  # of the name
    name: Mapped[bytes | None] = mapped_column(Sealed)
    role: Mapped[str]
    password: Mapped[str | None]  # Argon2id in its usual text form
    state: Mapped[str] = mapped_column(default="active")  # active, disabled, erased
    groups: Mapped[str] = mapped_column(
        default="", server_default=""
    )  # words, which documents name
    created: Mapped[float] = mapped_column(default=time.time)


class DataKey(Base):
    """A key that contents are encrypted with, itself encrypted with the installation's key."""

    __tablename__ = "data_keys"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)  # random; in the list of the forgotten
    user_id: Mapped[int | None] = _reference("users.id")  # none: the installation's own
    purpose: Mapped[str]  # content, index
    wrapped: Mapped[bytes]
    created: Mapped[float] = mapped_column(default=time.time)


class ApiKey(Base):
    """A key by which programs come in. The secret itself is not kept."""

    __tablename__ = "api_keys"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(KEYED), unique=True)
    user_id: Mapped[int] = _reference("users.id", gone="CASCADE")
    role: Mapped[str]
    created: Mapped[float] = mapped_column(default=time.time)
    expires: Mapped[float | None]
    revoked: Mapped[float | None]
    used: Mapped[float | None]


class Quota(Base):
    """How much a key may ask for in a day or a month."""

    __tablename__ = "quotas"
    key_id: Mapped[int] = mapped_column(
        Id, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True
    )
    what: Mapped[str] = mapped_column(primary_key=True)  # generations, tokens
    period: Mapped[str] = mapped_column(primary_key=True)  # day, month
    most: Mapped[int]


class Spent(Base):
    """How much a key asked for in a day (2026-11-26) or a month (2026-11), of UTC."""

    __tablename__ = "spent"
    key_id: Mapped[int] = mapped_column(
        Id, ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True
    )
    period: Mapped[str] = mapped_column(primary_key=True)
    generations: Mapped[int]
    tokens: Mapped[int]


class SignIn(Base):
    """A person who is signed in in a browser."""

    __tablename__ = "sign_ins"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(KEYED), unique=True)
    user_id: Mapped[int] = _reference("users.id", gone="CASCADE")
    created: Mapped[float] = mapped_column(default=time.time)
    expires: Mapped[float]


class AuditEntry(Base):
    """One line of the audit log; each holds a keyed hash of itself and the one before."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    time: Mapped[float]
    user_id: Mapped[int | None] = mapped_column(Id)  # no reference: the log outlives its people
    action: Mapped[str] = mapped_column(index=True)
    subject: Mapped[str]
    facts: Mapped[dict[str, Any]]
    chain: Mapped[bytes] = mapped_column(LargeBinary(KEYED))


# -- prompts and what came of them ----------------------------------------------------------------


class Fragment(Base):
    """A piece of content, stored once for each owner."""

    __tablename__ = "fragments"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    address: Mapped[bytes] = mapped_column(LargeBinary(KEYED), unique=True)
    user_id: Mapped[int | None] = _reference("users.id")
    kind: Mapped[str]  # text, or a media type
    content: Mapped[bytes] = mapped_column(Sealed)


class Prompt(Base):
    """One message after those before it: a node of a tree. Answers are nodes too."""

    __tablename__ = "prompts"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    address: Mapped[bytes] = mapped_column(LargeBinary(KEYED), unique=True)
    parent_id: Mapped[int | None] = _reference("prompts.id")
    user_id: Mapped[int | None] = _reference("users.id")
    role: Mapped[str]
    created: Mapped[float] = mapped_column(default=time.time)


class PromptPart(Base):
    """Which fragments a message is made of."""

    __tablename__ = "prompt_parts"
    prompt_id: Mapped[int] = mapped_column(
        Id, ForeignKey("prompts.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    fragment_id: Mapped[int] = _reference("fragments.id", gone="CASCADE")


class Template(Base):
    """One version of a prompt template."""

    __tablename__ = "templates"
    __table_args__ = (UniqueConstraint("name", "version"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column(Integer)
    text: Mapped[bytes] = mapped_column(Sealed)  # JSON: text, settings, note
    user_id: Mapped[int | None] = _reference("users.id")
    created: Mapped[float] = mapped_column(default=time.time)


class TemplateLabel(Base):
    """A name such as "production" that is moved from version to version."""

    __tablename__ = "template_labels"
    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    template_id: Mapped[int] = _reference("templates.id", gone="CASCADE")


class Generation(Base):
    """One thing that was asked of a model, and what came."""

    __tablename__ = "generations"
    __table_args__ = (Index("generations_by_task", "task", "id"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[int | None] = _reference("users.id")
    key_id: Mapped[int | None] = _reference("api_keys.id")
    prompt_id: Mapped[int | None] = _reference("prompts.id")
    answer_id: Mapped[int | None] = _reference("prompts.id")
    template_id: Mapped[int | None] = _reference("templates.id")
    model_id: Mapped[int | None] = _reference("models.id")
    model_name: Mapped[str]
    model_hash: Mapped[str | None]
    task: Mapped[str]
    seed: Mapped[int | None]
    state: Mapped[str] = mapped_column(index=True)  # started, finished, cut
    reason: Mapped[str | None]  # why it ended: stop, length, cancelled, crashed, ...
    verdict: Mapped[str | None]  # of the model's last evaluation
    started: Mapped[float] = mapped_column(index=True)
    finished: Mapped[float | None]
    process: Mapped[str | None]  # which process makes it, while it is not finished
    parameters: Mapped[bytes | None] = mapped_column(Sealed)
    usage: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Word(Base):
    """The blind index: a keyed hash of a word, and a generation that holds it."""

    __tablename__ = "words"
    __table_args__ = {"sqlite_with_rowid": False}
    word: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    generation_id: Mapped[int] = mapped_column(
        Id, ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Artefact(Base):
    """A file that a generation left."""

    __tablename__ = "artefacts"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    generation_id: Mapped[int] = _reference("generations.id", gone="CASCADE")
    digest: Mapped[bytes] = mapped_column(LargeBinary(KEYED), index=True)  # keyed, of its bytes
    suffix: Mapped[str]
    place: Mapped[bytes] = mapped_column(Sealed)


class Annotation(Base):
    """What somebody or something thinks of a generation."""

    __tablename__ = "annotations"
    __table_args__ = (Index("annotations_by_value", "name", "value"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    generation_id: Mapped[int] = _reference("generations.id", gone="CASCADE")
    user_id: Mapped[int | None] = _reference("users.id")
    kind: Mapped[str]  # human, code, model
    name: Mapped[str]
    value: Mapped[float | None]
    label: Mapped[str | None]
    explanation: Mapped[bytes | None] = mapped_column(Sealed)
    created: Mapped[float] = mapped_column(default=time.time)


# -- data, runs, models ---------------------------------------------------------------------------


class Dataset(Base):
    """Data as it was read once: which items, in which split."""

    __tablename__ = "datasets"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    modality: Mapped[str]
    num_train: Mapped[int]
    num_test: Mapped[int]
    version: Mapped[str | None]  # of the snapshot that holds its files
    items: Mapped[bytes | None] = mapped_column(Sealed)  # 16 bytes each, see `datasets`
    about: Mapped[bytes] = mapped_column(Sealed)  # JSON: its place, options, tags
    created: Mapped[float] = mapped_column(default=time.time)


class DatasetPair(Base):
    """A generation that became an item of a dataset."""

    __tablename__ = "dataset_pairs"
    dataset_id: Mapped[int] = mapped_column(
        Id, ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    )
    generation_id: Mapped[int] = mapped_column(
        Id, ForeignKey("generations.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Run(Base):
    """One training."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    dataset_id: Mapped[int | None] = _reference("datasets.id")
    user_id: Mapped[int | None] = _reference("users.id")
    family: Mapped[str]
    state: Mapped[str] = mapped_column(index=True)  # started, finished, cut
    seed: Mapped[int | None]
    started: Mapped[float] = mapped_column(default=time.time)
    finished: Mapped[float | None]
    process: Mapped[str | None]
    about: Mapped[bytes] = mapped_column(Sealed)  # JSON: place, recipe, facts


class Model(Base):
    """A trained or imported bundle, by the hash of its weights."""

    __tablename__ = "models"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(index=True)
    family: Mapped[str]
    modality: Mapped[str]
    run_id: Mapped[int | None] = _reference("runs.id")
    base_id: Mapped[int | None] = _reference("models.id")
    version: Mapped[str | None]  # of the snapshot that holds its files, where they are kept
    about: Mapped[bytes] = mapped_column(Sealed)  # JSON: place, origin
    created: Mapped[float] = mapped_column(default=time.time)


class Evaluation(Base):
    """One judgement of a model."""

    __tablename__ = "evaluations"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    model_id: Mapped[int] = _reference("models.id", gone="CASCADE")
    dataset_id: Mapped[int | None] = _reference("datasets.id")
    verdict: Mapped[str]
    passed: Mapped[bool | None]  # its gate, where it had one
    record: Mapped[bytes] = mapped_column(Sealed)  # JSON: scores with their protocols
    created: Mapped[float] = mapped_column(default=time.time)


class Deed(Base):
    """What was done with data and models beside training: kept, divided, compared, taken in."""

    __tablename__ = "deeds"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    verb: Mapped[str] = mapped_column(index=True)  # such as snapshot
    user_id: Mapped[int | None] = _reference("users.id")
    dataset_id: Mapped[int | None] = _reference("datasets.id")
    model_id: Mapped[int | None] = _reference("models.id")
    about: Mapped[bytes] = mapped_column(Sealed)  # JSON: source, options, what it made, facts
    created: Mapped[float] = mapped_column(default=time.time)


class Made(Base):
    """Bytes of the ledger of what was generated in one modality."""

    __tablename__ = "made"
    __table_args__ = (UniqueConstraint("modality", "place"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    modality: Mapped[str]
    place: Mapped[int]  # bytes of the ledger before them
    length: Mapped[int]
    user_id: Mapped[int | None] = _reference("users.id")  # whom it was made for
    entries: Mapped[bytes | None] = mapped_column(Sealed)  # none: its person was erased
    created: Mapped[float] = mapped_column(default=time.time)


# -- the installation -----------------------------------------------------------------------------


class Rule(Base):
    """How long one kind of record is kept."""

    __tablename__ = "rules"
    kind: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float]


class Setting(Base):
    """What the records know of themselves: which key they need, the head of the audit log."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
