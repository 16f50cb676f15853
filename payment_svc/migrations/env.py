"""Alembic's entrance; the work is the chassis's."""

from chassis.migration import run
from payment_svc.tables import metadata

run(metadata)
