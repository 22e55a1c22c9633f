"""``python -m unetq.cli``."""

from . import main

main()
