"""Requests to the sample. No tests here."""

from typing import Any

from tests.rpc.sample import contract


def get_thing() -> Any:
    return contract()[0].GetThingRequest(thing_id="1")


def create_thing() -> Any:
    return contract()[0].CreateThingRequest(request_id="1")


def watch_thing() -> Any:
    return contract()[0].WatchThingRequest(thing_id="1")
