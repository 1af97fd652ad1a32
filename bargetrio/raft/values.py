"""The types of the fields of messages, records and facts; all numbers are bounded on the wire and on the disk."""

from typing import Annotated

from msgspec import Meta, Raw

MAX_INT = 2**63 - 1
Natural = Annotated[int, Meta(ge=0, le=MAX_INT)]
NodeId = Natural
Term = Natural
Index = Natural
"""Log indices start at 1; 0 is "before the log"."""
Command = Raw
"""One JSON value as it came over the wire: raft decodes only the commands of entries named as configurations."""

NO_OP: Command = Raw(b"null")
"""The command of the entry with which a new leader begins its term."""
