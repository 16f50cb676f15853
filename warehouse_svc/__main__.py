"""`python -m warehouse_svc` serves; `python -m warehouse_svc migrate` migrates its database."""

from chassis.service import main
from warehouse_svc.app import running
from warehouse_svc.config import Config

main(Config, running)
