"""`python -m shipping_svc` serves; `python -m shipping_svc migrate` brings its database up to
date.
"""

from chassis.service import main
from shipping_svc.app import running
from shipping_svc.config import Config

main(Config, running)
