"""How far the outbox was compared with its stream is remembered."""

from chassis.migration import compare_with_the_stream_v2

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    compare_with_the_stream_v2()
