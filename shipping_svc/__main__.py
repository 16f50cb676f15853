"""`python -m shipping_svc` serves; `python -m shipping_svc migrate` migrates its database."""

from chassis.service import main
from shipping_svc.app import running
from shipping_svc.config import Config

main(Config, running)
