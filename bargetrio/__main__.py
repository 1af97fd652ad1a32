"""`python -m bargetrio` is `bargetrio`."""

from bargetrio.cli import main

if __name__ == "__main__":
    main()
