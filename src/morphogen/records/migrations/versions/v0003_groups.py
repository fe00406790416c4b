"""Groups of people, which documents name as their readers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Nobody belongs to one yet."""
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("groups", sa.String, nullable=False, server_default=""))


def downgrade() -> None:
    """There is no way back: see `migrating.migrate`."""
    raise NotImplementedError("restore a backup of before")
