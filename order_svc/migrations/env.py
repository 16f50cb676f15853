"""The entry point of Alembic."""

from chassis.write.migration import run

run()
