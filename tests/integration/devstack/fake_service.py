"""A stand-in for a service: it migrates, serves health, and misbehaves where FAULT says so. Run as
`fake_service.py NAME [migrate]`.

FAULT in its environment may say `NAME:migration`, `NAME:start`, `NAME:silent` or `NAME:deaf` (to
SIGTERM), several with commas between; its database holds a row for each migration.
"""

import asyncio
import os
import signal
import sys


def migrate() -> None:
    """Inserts a row into the service's database."""
    # imported here and below, where it is needed: imports take half of a stand-in's time
    import psycopg

    with psycopg.connect(os.environ["DATABASE_URL"].replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (time timestamptz DEFAULT now())")
        connection.execute("INSERT INTO migrations DEFAULT VALUES")


async def serve(*, deaf: bool) -> None:
    """Serves health until SIGTERM, or without end."""
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(os.environ["LISTEN_ADDRESS"])
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, (lambda: None) if deaf else stopped.set
    )
    await stopped.wait()
    await server.stop(0)


def main(name: str, *action: str) -> None:
    """Runs the command line's action, or the fault."""
    print(  # noqa: T201  # tests read its log
        f"{name} {' '.join(action) or 'serves'} with {os.environ['NATS_URL']}", flush=True
    )
    faults = dict(each.split(":") for each in os.environ.get("FAULT", "").split(",") if each)
    fault = faults.get(name)
    if action == ("migrate",):
        if fault == "migration":
            sys.exit("the migration 0007 is broken")
        migrate()
        return
    if fault == "start":
        sys.exit("WAREHOUSE_ADDRESS is missing")
    asyncio.run(asyncio.Event().wait() if fault == "silent" else serve(deaf=fault == "deaf"))


if __name__ == "__main__":
    main(*sys.argv[1:])
