"""What a core raises: not life, but the end of this node."""


class ConsensusViolation(Exception):
    """Something that Raft proves impossible: a disk forgot, or a peer lied. This node must stop and say so (BUG-28)."""
