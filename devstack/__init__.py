"""PostgreSQL, NATS and the five services on one machine, from pip wheels: for `make run` and
tests.
"""
