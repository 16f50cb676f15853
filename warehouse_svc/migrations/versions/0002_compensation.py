"""What comes back: spoiled units of a reservation's line; of each order line what has left, and
what of that returned.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


STATEMENTS = (
    # The default is for the version before, which still makes lines while this one arrives.
    """
    ALTER TABLE reservation_lines ADD COLUMN spoiled integer NOT NULL DEFAULT 0
        CONSTRAINT reservation_lines_spoiled CHECK (spoiled BETWEEN 0 AND written_off)
    """,
    """
    CREATE TABLE order_lines (
        order_id uuid NOT NULL,
        line_number smallint NOT NULL CONSTRAINT order_lines_line_number CHECK (line_number BETWEEN 1 AND 500),
        sku text NOT NULL,
        shipped integer NOT NULL CONSTRAINT order_lines_shipped CHECK (shipped >= 1),
        restocked integer NOT NULL CONSTRAINT order_lines_restocked CHECK (restocked >= 0),
        damaged integer NOT NULL CONSTRAINT order_lines_damaged CHECK (damaged >= 0),
        CONSTRAINT order_lines_pkey PRIMARY KEY (order_id, line_number),
        CONSTRAINT order_lines_back CHECK (restocked + damaged <= shipped),
        CONSTRAINT order_lines_order_id_fkey FOREIGN KEY(order_id) REFERENCES holdings (order_id)
    )
    """,
    # What has left until now. What the version before still ships is written when a return of it
    # comes: the lines are the truth.
    """
    INSERT INTO order_lines
    SELECT order_id, number, min(sku), sum(shipped), 0, 0
    FROM reservation_lines JOIN reservations ON reservations.id = reservation_id
    WHERE shipped > 0
    GROUP BY order_id, number
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
