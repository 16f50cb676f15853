"""`python -m order_svc` serves; `python -m order_svc migrate` brings its database up to date."""

from chassis.service import main
from order_svc.app import running
from order_svc.config import Config

main(Config, running)
