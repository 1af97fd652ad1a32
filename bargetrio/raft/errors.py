"""Fatal: the node must stop."""


class ConsensusViolation(Exception):
    """A safety property of Raft is broken: a disk lost data, or a peer is faulty. This node must stop and log it (BUG-28)."""
