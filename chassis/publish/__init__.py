"""Events out: from the outbox table to the stream.

relay.py              publishes the rows of the outbox and marks them
marks.py              the marks of the rows: places in the stream, and refusals
backlog.py            the metrics of the events that wait
shards.py             which process owns which shard of the outbox
stream_rebuild.py     finds what the stream has lost, and sets it to be published again
stream_comparison.py  compares a page of the outbox with the stream
stream_contents.py    reads what the stream holds
republish.py          operators publish retained events again
unmatched_events.py   events that only one of outbox and stream has
"""
