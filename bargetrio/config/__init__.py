"""configuration.yml: reading, validation, and whether it can run on this machine (docs/configuration.md).

```
schema.py     a valid configuration              placement.py  whether it can run on this machine
reader.py     YAML, reporting all errors at once
```
May import protocol and files. Start at schema.py.
"""

from bargetrio.config.reader import load
from bargetrio.config.schema import (
    NODE_KEYS,
    SNAPSHOT_KEYS,
    TIMING_KEYS,
    TOP_KEYS,
    CannotRunHere,
    ConfigurationError,
    DaemonConfiguration,
    NodeConfiguration,
    SnapshotSettings,
    Timing,
)

__all__ = [
    "NODE_KEYS",
    "SNAPSHOT_KEYS",
    "TIMING_KEYS",
    "TOP_KEYS",
    "CannotRunHere",
    "ConfigurationError",
    "DaemonConfiguration",
    "NodeConfiguration",
    "SnapshotSettings",
    "Timing",
    "load",
]
