"""A long run in small: nothing grows that should not."""
