"""The operations of the payment service. A method serves one RPC, event or timer.

An operation calls a processor between two writes: the first stores the processor's operation, the
second its outcome. No transaction is open during the call. The idempotency key of the call is the
id of the processor's operation: a retry by any process charges and refunds nothing twice.

payments.py         create, capture, void, refund by request, resolved contradictions
orders.py           what an order costs now
settlement.py       answers of processors, reports and lookups; automatic refunds and voids
reading.py          reads, lists and gauges
writing.py          writes of accounts, which wake the compensation
"""
