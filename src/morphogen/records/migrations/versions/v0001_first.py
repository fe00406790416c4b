"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEYED = 32  # bytes
then = sa.MetaData()

sa.Table(
    "audit",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("user_id", WHOLE),
    sa.Column("action", sa.String, nullable=False, index=True),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("chain", sa.LargeBinary(KEYED), nullable=False),
)

sa.Table(
    "datasets",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),
    sa.Column("modality", sa.String, nullable=False),
    sa.Column("num_train", WHOLE, nullable=False),
    sa.Column("num_test", WHOLE, nullable=False),
    sa.Column("version", sa.String),
    sa.Column("items", sa.LargeBinary),
    sa.Column("about", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sa.Table(
    "rules",
    then,
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("seconds", sa.Double, nullable=False),
)

sa.Table(
    "settings",
    then,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

sa.Table(
    "users",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("blind", sa.LargeBinary(KEYED), unique=True),
    sa.Column("name", sa.LargeBinary),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("password", sa.String),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sa.Table(
    "api_keys",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("hash", sa.LargeBinary(KEYED), nullable=False, unique=True),
    sa.Column(
        "user_id", WHOLE, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double),
    sa.Column("revoked", sa.Double),
    sa.Column("used", sa.Double),
)

sa.Table(
    "data_keys",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sa.Table(
    "fragments",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("address", sa.LargeBinary(KEYED), nullable=False, unique=True),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

sa.Table(
    "prompts",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("address", sa.LargeBinary(KEYED), nullable=False, unique=True),
    sa.Column("parent_id", WHOLE, sa.ForeignKey("prompts.id", ondelete="SET NULL"), index=True),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sa.Table(
    "runs",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("dataset_id", WHOLE, sa.ForeignKey("datasets.id", ondelete="SET NULL"), index=True),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("seed", WHOLE),
    sa.Column("started", sa.Double, nullable=False),
    sa.Column("finished", sa.Double),
    sa.Column("process", sa.String),
    sa.Column("about", sa.LargeBinary, nullable=False),
)

sa.Table(
    "sign_ins",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("hash", sa.LargeBinary(KEYED), nullable=False, unique=True),
    sa.Column(
        "user_id", WHOLE, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)

sa.Table(
    "templates",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("text", sa.LargeBinary, nullable=False),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("created", sa.Double, nullable=False),
    sa.UniqueConstraint("name", "version"),
)

sa.Table(
    "models",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("hash", sa.String, nullable=False, unique=True),
    sa.Column("name", sa.String, nullable=False, index=True),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("modality", sa.String, nullable=False),
    sa.Column("run_id", WHOLE, sa.ForeignKey("runs.id", ondelete="SET NULL"), index=True),
    sa.Column("base_id", WHOLE, sa.ForeignKey("models.id", ondelete="SET NULL"), index=True),
    sa.Column("version", sa.String),
    sa.Column("about", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sa.Table(
    "prompt_parts",
    then,
    sa.Column(
        "prompt_id", WHOLE, sa.ForeignKey("prompts.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column(
        "fragment_id",
        WHOLE,
        sa.ForeignKey("fragments.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
)

sa.Table(
    "template_labels",
    then,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("label", sa.String, primary_key=True),
    sa.Column(
        "template_id",
        WHOLE,
        sa.ForeignKey("templates.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
)

sa.Table(
    "evaluations",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column(
        "model_id",
        WHOLE,
        sa.ForeignKey("models.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("dataset_id", WHOLE, sa.ForeignKey("datasets.id", ondelete="SET NULL"), index=True),
    sa.Column("verdict", sa.String, nullable=False),
    sa.Column("passed", sa.Boolean),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)

sa.Table(
    "generations",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column("uid", sa.String, nullable=False, unique=True),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("key_id", WHOLE, sa.ForeignKey("api_keys.id", ondelete="SET NULL"), index=True),
    sa.Column("prompt_id", WHOLE, sa.ForeignKey("prompts.id", ondelete="SET NULL"), index=True),
    sa.Column("answer_id", WHOLE, sa.ForeignKey("prompts.id", ondelete="SET NULL"), index=True),
    sa.Column("template_id", WHOLE, sa.ForeignKey("templates.id", ondelete="SET NULL"), index=True),
    sa.Column("model_id", WHOLE, sa.ForeignKey("models.id", ondelete="SET NULL"), index=True),
    sa.Column("model_name", sa.String, nullable=False),
    sa.Column("model_hash", sa.String),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("seed", WHOLE),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("reason", sa.String),
    sa.Column("verdict", sa.String),
    sa.Column("started", sa.Double, nullable=False, index=True),
    sa.Column("finished", sa.Double),
    sa.Column("process", sa.String),
    sa.Column("parameters", sa.LargeBinary),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Index("generations_by_task", "task", "id"),
)

sa.Table(
    "annotations",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column(
        "generation_id",
        WHOLE,
        sa.ForeignKey("generations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("user_id", WHOLE, sa.ForeignKey("users.id", ondelete="SET NULL"), index=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("label", sa.String),
    sa.Column("explanation", sa.LargeBinary),
    sa.Column("created", sa.Double, nullable=False),
    sa.Index("annotations_by_value", "name", "value"),
)

sa.Table(
    "artefacts",
    then,
    sa.Column("id", WHOLE, primary_key=True),
    sa.Column(
        "generation_id",
        WHOLE,
        sa.ForeignKey("generations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("digest", sa.LargeBinary(KEYED), nullable=False, index=True),
    sa.Column("suffix", sa.String, nullable=False),
    sa.Column("place", sa.LargeBinary, nullable=False),
)

sa.Table(
    "dataset_pairs",
    then,
    sa.Column(
        "dataset_id", WHOLE, sa.ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column(
        "generation_id",
        WHOLE,
        sa.ForeignKey("generations.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)

sa.Table(
    "words",
    then,
    sa.Column("word", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column(
        "generation_id",
        WHOLE,
        sa.ForeignKey("generations.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    sqlite_with_rowid=False,
)


def upgrade() -> None:
    """Make the tables."""
    then.create_all(op.get_bind())


def downgrade() -> None:
    """Take them away."""
    then.drop_all(op.get_bind())
