"""How many seeds the tests run; docs/testing.md tells the same numbers."""

SEEDS = 1200
"""Of ring 1, all of which must pass."""
STACK_SEEDS = 100
"""Of ring 2."""
BREAK_SEEDS = 500
"""Of ring 1, within which each planted bug must be found."""
BREAK_STACK_SEEDS = 40
"""Of ring 2."""
