"""Events in: from the stream to the operations of a service.

inbox.py                 one consumer for each stream: takes, dispatches and settles deliveries
pull.py                  fetches messages
delivery.py              reads a message as a delivery
dispatch.py              groups deliveries by type and gives them to their handlers
turns.py                 runs one step of a coroutine per iteration of the event loop
failed_events.py         stores events that a handler could not handle
failed_event_records.py  the records of that table
parked_events.py         tries deferred events again
replays.py               operators replay or discard failed events
"""
