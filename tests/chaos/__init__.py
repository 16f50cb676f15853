"""`make chaos`: orders under faults. What must hold afterwards is asked of the services themselves
(omctl.audit).

plan.py      which fault strikes when: pure, all from a seed
intents.py   what each shopper means to do: pure, all from the same seed
roads.py     a proxy on each connection between services and what they need
faults.py    each kind of fault, and the evidence that it struck
events.py    the broker's side: what is published, and how to lose, repeat and shuffle it
calls.py     calls as clients make them: the same request again until it is answered
shoppers.py  shoppers at work
staff.py     pickers, carriers and those who look at returns
quiet.py     whether everything has come to rest
verdict.py   what must be true then, beside the audit
report.py    what is said and kept of a run
run.py       a run, from the first process to the verdict
service.py   what runs as a service: the same, with a payment window of seconds, and with a defect
             where one is asked for
bugs.py      defects that a run must find, and the run that finds each
prove.py     proves the checker: plants one after the other
"""
