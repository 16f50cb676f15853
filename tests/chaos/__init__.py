"""`make chaos`: orders under faults. Afterwards omctl.audit checks the services' records.

plan.py        the faults, with targets and times: pure, all from a seed
scenarios.py   the plan of each shopper: pure, all from the same seed
connections.py a proxy on each connection of a service
faults.py      each kind of fault, and the evidence of its effect
events.py      the broker's side: published events, and how to lose, repeat and shuffle them
calls.py       calls of a client: the same request again until it is answered
shoppers.py    shoppers at work
staff.py       pickers, carriers and inspectors of returns
quiet.py       whether everything is at rest
verdict.py     the checks at the end, beside the audit
report.py      the printed and stored report of a run
run.py         a run, from the first process to the verdict
service.py     the program of a service: with a payment window of seconds, and with a planted defect
               where a run needs one
bugs.py        defects that a run must find, and the run that finds each
prove.py       proves the checker: plants one after the other
"""
