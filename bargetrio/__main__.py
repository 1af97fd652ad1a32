"""`python -m bargetrio` is `bargetrio`."""

from bargetrio.cli import main

main()
