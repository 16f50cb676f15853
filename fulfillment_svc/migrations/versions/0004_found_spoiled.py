"""Units that are found damaged are noted before the warehouse is told. The version before knows
none: the count has a default, and its replicas end before inspections go on.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE picklist_lines
            ADD COLUMN found INTEGER NOT NULL DEFAULT 0 CONSTRAINT picklist_lines_found CHECK (found >= 0)
        """)
