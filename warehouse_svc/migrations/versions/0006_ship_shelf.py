"""A movement for parcels that were reported after their label was void: they leave from the
shelf.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

EFFECT = """
    ALTER TABLE movements
        DROP CONSTRAINT movements_effect,
        ADD CONSTRAINT movements_effect CHECK (case kind
            when 'receive' then (available, reserved, committed, damaged, outside) = (quantity, 0, 0, 0, -quantity)
            when 'adjust' then abs(available) = quantity and (reserved, committed, damaged) = (0, 0, 0)
            when 'reserve' then (available, reserved, committed, damaged, outside) = (0, quantity, 0, 0, 0)
            when 'confirm' then (available, reserved, committed, damaged, outside) = (-quantity, -quantity, quantity, 0, 0)
            when 'release' then (available, reserved, committed, damaged, outside) = (0, -quantity, 0, 0, 0)
            when 'expire' then (available, reserved, committed, damaged, outside) = (0, -quantity, 0, 0, 0)
            when 'uncommit' then (available, reserved, committed, damaged, outside) = (quantity, 0, -quantity, 0, 0)
            when 'ship' then (available, reserved, committed, damaged, outside) = (0, 0, -quantity, 0, quantity)
            when 'short' then (available, reserved, committed, damaged, outside) = (0, 0, -quantity, 0, quantity)
            when 'spoil_committed' then (available, reserved, committed, damaged, outside) = (0, 0, -quantity, quantity, 0)
            when 'spoil_shelf' then (available, reserved, committed, damaged, outside) = (-quantity, 0, 0, quantity, 0)
            when 'restock' then (available, reserved, committed, damaged, outside) = (quantity, 0, 0, 0, -quantity)
            when 'mark_damaged' then (available, reserved, committed, damaged, outside) = (0, 0, 0, quantity, -quantity)
            when 'ship_shelf' then (available, reserved, committed, damaged, outside) = (-quantity, 0, 0, 0, quantity)
            end)
"""


def upgrade() -> None:
    # A new value may be used only once it is committed; and the constraint below uses it.
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE movement_kind ADD VALUE IF NOT EXISTS 'ship_shelf'")
    op.execute(EFFECT)
