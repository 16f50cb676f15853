"""The write path: SQL over sets, the transaction of a set of commands, and the outbox table.

writer.py                decides and stores a set of commands in one transaction
workspace.py             the locked records that the commands of a set work on
apply_commands.py        applies the commands of a set one after the other
database.py              the connections, and the reads
idempotency_keys.py      the keys of committed effects
error_classification.py  the class of an error: race, refusal, absence, defect
in_write.py              whether a write is in progress
outbox.py                appends events in the transaction of their change
partitions.py            the outbox by day
tables.py                the tables that all services have
rows.py                  maps rows to records by name
migration.py             migrates the tables of a service
stored_versions.py       operators reset a stored version
probe.py                 whether the database answers
idle_timeout.py          closes a connection whose server does not answer
"""
