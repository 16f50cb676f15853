"""`python -m payment_svc` serves; `python -m payment_svc migrate` brings its database up to
date.
"""

from chassis.service import main
from payment_svc.app import running
from payment_svc.config import Config

main(Config, running)
