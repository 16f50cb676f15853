"""Values and pure functions that every other folder may use.

actor.py            the person or service that a caller claims to act for
config.py           settings from the environment
convert.py          protobuf times, optional fields, enums and resume tokens
crash_points.py     points at which tests end a process
deadline.py         the time that is left for a call
decision.py         what a decider returns, and the outcome of a command
envelope.py         the envelope of a command, and the context of a decider
errors.py           failures: why a command was not done
event_subjects.py   the subject and the stream of an event, and the size of its message
message_limits.py   the largest legal request or event, checked on the encoded message
money.py            amounts in minor units of a currency
outgoing_event.py   an event between a service's wire and the outbox
paging.py           pages of lists, bounded in bytes
request_context.py  the key, the hash, the actor and the note of a request
texts.py            codes in NFC, and characters that no table stores
tokens.py           the encoding of page tokens and resume tokens
validation.py       violations of a contract's rules
versions.py         how far a version may jump
"""
