"""The settings of a node."""

from msgspec import Struct

from bargetrio.kv.scan import SLICE_KEYS
from bargetrio.protocol.limits import UNAUTHENTICATED
from bargetrio.raft.messages import NodeId
from bargetrio.raft.progress import PIPELINE, Pipeline
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.storage.wal import SEGMENT_BYTES


class NodeSettings(Struct, frozen=True, kw_only=True):
    """Durations in seconds, addresses as "host:port"."""

    cluster: str
    node_id: NodeId
    listen: str
    addresses: dict[NodeId, str]
    heartbeat_s: float
    election_s: tuple[float, float]
    request_timeout_s: float
    peer_secret: bytes | None = None
    seed: int | None = None
    snapshot_policy: SnapshotPolicy = SnapshotPolicy()
    pipeline: Pipeline = PIPELINE
    chunk_bytes: int = 256 * 1024
    """Bytes of a snapshot in one message."""
    most_clients: int = 20_000
    most_unauthenticated: int = UNAUTHENTICATED
    """Connections of clients, and of those that have not said hello yet: together fewer than the process may open."""
    slice_keys: int = SLICE_KEYS
    """How many keys are saved at once."""
    segment_bytes: int = SEGMENT_BYTES
    """The size of a file of the log. Below two of them that are free, a leader proposes no writes."""
