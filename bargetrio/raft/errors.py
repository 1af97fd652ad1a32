"""Fatal: the node must stop."""


class ConsensusViolation(Exception):
    """A safety property of Raft is broken: a disk lost data, or a peer is faulty. This node must stop and log it (BUG-28)."""


class LogsDisagree(ConsensusViolation):
    """Logs have the same index and term and differ below (excluded by Raft 5.3), and this node's is not the majority's."""
