"""The operations of the shipping service, one method for each use case.

An operation calls the carrier between two writes, never inside one.

A module has the name of its deciders' module.

creation.py       shipments of ready fulfilments
labels.py         labels, bought by a call, an event or the sweeper
reports.py        the carrier's reports
recalls.py        recalls and withdrawals of parcels
closing.py        closed orders and cancelled fulfilments
reading.py        reads, lists and watches
carrier_calls.py  calls of the carrier, with a timeout and a limit on concurrent calls
sweeping.py       labels and recalls that are due, tried again
writing.py        writes of shipments
"""
