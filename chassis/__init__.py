"""What every service stands on, and no service's business.

a service    service.py puts all of this together; process.py starts and ends it; config.py reads
             its settings
values       errors.py why something was not done; decision.py what goes into a write and comes out;
             money.py; texts.py what no table can hold; validation.py what breaks a contract's
             rules; convert.py what every service's wire needs; paging.py pages of lists; tokens.py
             what clients give back
the write    writer.py decides and stores a set of commands; in it fold.py the decisions,
             blame.py the class of an error; database.py the connections and the reads;
             idempotency_keys.py the table of keys; envelope.py what carries a command, and what a
             decider gets of it;
             idempotency.py the key and the hash of a request; writing.py whether a write is in
             progress; tables.py the tables that all services have, and SQL over sets; rows.py
             maps rows to records by name; migration.py the migration of these tables;
             silence.py a connection that closes when its server does not answer
events out   outgoing.py what a fact becomes; outbox.py appends; relay.py publishes; shards.py whose
             turn it is; rebuild.py what a stream has lost; contents.py what it holds; partitions.py
             the outbox by day; republish.py what operators want published again; unmatched.py what
             only one of outbox and stream has
events in    inbox.py settles; pull.py fetches; delivery.py reads; event_payload.py parses;
             handling.py asks the handlers; turns.py in steps, so that calls run in between;
             failed.py stores what could not be handled; parking.py tries deferred events again;
             replays.py what operators want handled again; versions.py how far a version may jump;
             stored_versions.py what operators set right of them; advisories.py what the broker has
             given up
the broker   stream.py its streams, its consumers and the connection; event_subjects.py the subject
             of an event; follow.py a client's subscription
calls in     server.py; interceptors.py what surrounds each; limits.py how large a request may be;
             in_flight.py those that run; watch.py those that wait for a change; reflection.py what
             the contracts say; ops/ what every service hosts for operators
calls out    client.py; watch_client.py a watch that resumes; breaker.py before a peer that is away
both ways    deadline.py the time that is left; actor.py for whom a caller acts; status.py a failure
             on the wire; tracing.py spans
telling      telemetry.py logs, metrics and traces; probe.py whether the database answers
for tests    crash.py points to be killed at
"""
