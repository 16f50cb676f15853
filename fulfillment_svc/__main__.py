"""`python -m fulfillment_svc` serves; `python -m fulfillment_svc migrate` brings its database up
to date.
"""

from chassis.service import main
from fulfillment_svc.app import running
from fulfillment_svc.config import Config

main(Config, running)
