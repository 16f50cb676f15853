"""The entry point of Alembic."""

from chassis.migration import run

run()
