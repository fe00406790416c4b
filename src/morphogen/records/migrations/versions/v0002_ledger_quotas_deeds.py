"""The ledger of what was generated, quotas of keys, and what was done with data and models."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them; nothing that is there is changed."""
    op.create_table(
        "made",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("modality", sa.String, nullable=False),
        sa.Column("place", WHOLE, nullable=False),
        sa.Column("length", WHOLE, nullable=False),
        _reference("user_id", "users"),
        sa.Column("entries", sa.LargeBinary),
        sa.Column("created", sa.Double, nullable=False),
        sa.UniqueConstraint("modality", "place"),
    )
    op.create_index("ix_made_user_id", "made", ["user_id"])
    op.create_table(
        "quotas",
        _key(),
        sa.Column("what", sa.String, primary_key=True),
        sa.Column("period", sa.String, primary_key=True),
        sa.Column("most", WHOLE, nullable=False),
    )
    op.create_table(
        "spent",
        _key(),
        sa.Column("period", sa.String, primary_key=True),
        sa.Column("generations", WHOLE, nullable=False),
        sa.Column("tokens", WHOLE, nullable=False),
    )
    op.create_table(
        "deeds",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("verb", sa.String, nullable=False),
        _reference("user_id", "users"),
        _reference("dataset_id", "datasets"),
        _reference("model_id", "models"),
        sa.Column("about", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    for column in ("verb", "user_id", "dataset_id", "model_id"):
        op.create_index(f"ix_deeds_{column}", "deeds", [column])


def downgrade() -> None:
    """There is no way back: see `migrating.migrate`."""
    raise NotImplementedError("restore a backup of before")


def _reference(name: str, table: str) -> sa.Column[int]:
    return sa.Column(name, WHOLE, sa.ForeignKey(f"{table}.id", ondelete="SET NULL"))


def _key() -> sa.Column[int]:
    """Of the key whose row it is: it goes with it."""
    there = sa.ForeignKey("api_keys.id", ondelete="CASCADE")
    return sa.Column("key_id", WHOLE, there, primary_key=True)
