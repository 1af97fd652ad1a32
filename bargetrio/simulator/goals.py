"""Coverage: rare situations that the seeds must reach. Counting them does not influence the run.

A simulator that never reaches a situation proves nothing about it. The counts are derived from facts and faults alone.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from bargetrio.eventlog.host_facts import DiskFailed, HostFact, NodeKilled, NodeRecovered
from bargetrio.raft.core import Core
from bargetrio.raft.facts import (
    AppendRejected,
    CommitAdvanced,
    Fact,
    LogsDiffer,
    LogTruncated,
    MembersChanged,
    PreVoteRefused,
    ReadServed,
    RoleChanged,
    SnapshotInstalled,
    SnapshotSent,
    SnapshotTaken,
    TailLost,
    TermChanged,
    TransferEnded,
    VoteRefused,
)
from bargetrio.raft.messages import Index, Message, NodeId, SnapshotReply, SnapshotRequest, StillReceiving, Term, VoteRequest
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import Standing
from bargetrio.simulator.observer import Look, LookAtMessage
from bargetrio.simulator.plan import ELECTION_S, Begun
from bargetrio.simulator.server import Server

GOALS: Final[dict[str, str]] = {
    "leader_elected": "a leader is elected",
    "leader_re_elected": "a node leads a second term",
    "term_above_10": "a term above 10",
    "split_vote": "a candidate's term ends without a leader",
    "vote_asked_again": "a candidate whose disk is slow asks a second time for a vote of its term",
    "pre_vote_refused_leader": "a pre-vote is refused because a leader is alive",
    "pre_vote_refused_log": "a pre-vote is refused because the log is behind",
    "pre_vote_refused_term": "a pre-vote is refused because the term is old",
    "vote_refused_voted": "a vote is refused because it went to another node",
    "vote_refused_log": "a vote is refused because the log is behind",
    "vote_refused_leader": "a vote is refused because a leader is alive",
    "vote_refused_term": "a vote is refused because the term is old",
    "leader_stepped_down_term": "a leader learns of a higher term",
    "leader_stepped_down_quorum": "a leader hears no majority",
    "leader_stepped_down_disk": "a leader's disk hangs while a majority of the others has synced what it waits for",
    "candidate_follows": "a candidate gives way to a leader of its own term",
    "truncation": "a follower deletes an entry",
    "truncation_of_two": "a follower deletes two entries or more",
    "append_rejected_gap": "an append is rejected because entries are missing",
    "append_rejected_old_term": "an append of a deposed leader is rejected",
    "commit_of_old_term": "entries of an earlier term are committed with one of the own",
    "commit_of_many": "ten entries or more are committed at once",
    "read_served": "a read is served",
    "list_goes_on": "a list goes on with a further page",
    "reads_share_a_round": "several reads share one round",
    "read_given_up": "a leader loses office with reads waiting",
    "read_timed_out": "a leader in office gives up on a read that no majority has confirmed in time",
    "write_timed_out": "a leader in office gives up on a write that was not committed in time",
    "writes_unknown": "a leader loses office with writes waiting",
    "write_refused_overload": "a leader refuses a write because it has too much that is not committed",
    "leader_crash_uncommitted": "a leader crashes with uncommitted entries",
    "crash_in_a_write": "a server crashes while a write is in flight",
    "crash_before_the_sync": "a server crashes between a write and its sync, where these are two steps",
    "kernel_sync_failed": "a sync fails that is a step of its own",
    "write_half_done_kept": "after a crash the write in flight is found whole, though it was not acknowledged",
    "write_in_flight_lost": "after a crash the write in flight is gone",
    "vote_lost": "a vote that was not synced is forgotten",
    "torn_record_cut": "recovery cuts a torn record off",
    "several_segments": "a log has rolled to a further segment",
    "disk_failed": "a disk fails and its node stops",
    "all_down": "all nodes are down at once",
    "catch_up_50": "a node comes back 50 entries or more behind",
    "old_leader_lives": "two nodes believe to lead, in different terms",
    "everybody_recovers": "all nodes have crashed at least once",
    "write_refused_condition": "a compare-and-set is refused",
    "write_unknown_told": "a client gets the answer that the outcome is unknown",
    "clock_apart": "clocks run at rates more than 10 % apart",
    "snapshot_taken": "a snapshot is saved",
    "snapshot_installed": "a leader's snapshot takes the place of a follower's state",
    "snapshot_declined": "a follower says that it has what a snapshot holds",
    "snapshot_twice": "a leader sends one follower two snapshots in one term",
    "piece_sent_again": "a piece of a snapshot, not the first, is sent again",
    "piece_damaged": "a snapshot that was received whole is not what was sent",
    "sender_changed": "a follower that has some pieces of a snapshot is sent one by another leader",
    "receiver_restarted": "a follower that had some pieces of a snapshot begins again after a restart",
    "crash_saving": "a server crashes while it saves a snapshot",
    "crash_sending": "a leader crashes while it sends a snapshot",
    "crash_receiving": "a follower crashes while it receives a snapshot",
    "crash_installing": "a follower crashes while it puts a snapshot in place of its state",
    "log_superseded": "a crash came between an installed snapshot and the new log",
    "recovered_snapshot_alone": "a server recovers from a snapshot with no entry behind it",
    "recovered_snapshot_and_log": "a server recovers from a snapshot and entries behind it",
    "narrow_queue": "a message waits behind another for a narrow link",
    "narrow_long_message": "a message takes longer to arrive than an election timeout",
    "narrow_bulk_dropped": "a batch or a piece is dropped because too much waits for a narrow link",
    "narrow_old_term_dropped": "what waits for a narrow link is dropped because its sender is in a later term",
    "narrow_value": "over narrow links, a value that takes longer to cross than an election timeout is committed",
    "narrow_snapshot": "over narrow links, a snapshot crosses in time",
    "still_receiving": "a follower reports to its leader that a long message is arriving",
    "batch_cut_by_bytes": "an append carries less than the follower lacks, because of its size",
    "window_full_by_bytes": "a follower is sent no more for now, because too many bytes are not answered",
    "piece_missing": "a piece of a snapshot that is sent can't be read",
    "snapshot_renewed": "another snapshot is sent because the one before could not be read",
    "install_drops_entries": "an installed snapshot drops entries that were never committed",
    "snapshot_given_up": "a snapshot is given up because the disk is full, and its node goes on",
    "write_refused_no_room": "a leader whose disk is nearly full refuses a write",
    "elected_late": "a leader is elected longer than the longest election timeout after it stood for election",
    "elected_as_pre_candidate": "the votes of a term make a leader of a node that asks already whether to begin the next one",
    "disk_lost": "a disk is lost, and replaced by an empty one",
    "leader_disk_lost": "the leader's disk is lost, and replaced",
    "disk_lost_again": "the disk of one node is lost twice",
    "taken_in": "a node votes that the operator had readmitted",
    "readmission_undone": "an entry that takes a node in is deleted by another leader",
    "candidate_stands_still": "a candidate stands still with the vote of a disk that is lost and replaced meanwhile",
    "first_start_late": "a node starts for the first time when others have been there for seconds",
    "bootstrapped": "a cluster is born without a member that has never been there",
    "tail_lost_told": "a leader says that a follower lost what it had acknowledged",
    "store_replaced": "a node that lost what it had acknowledged is readmitted automatically",
    "synced_tail_lost": "a disk that lied about its syncs comes back without entries that it had called synced",
    "old_folder_put_back": "a folder is set back to an old copy",
    "old_folder_lacks": "a folder that was set back to an old copy lacks what its disk held",
    "loss_excused": "something is missing that a majority of disks held only with the one that lost synced data",
    "log_altered": "an entry of a log is another one than everywhere else",
    "logs_differ_told": "a leader, or a follower, says that a log differs from its own",
    "log_that_differs_stops": "a node stops whose log differs from the majority's",
    "other_nodes_refused": "a folder is not opened with another list of nodes",
    "other_list_refused": "a node does not hear one with an unborn store whose configuration names other nodes",
    "other_list_not_readmitted": "a node with a new disk is not readmitted, for its configuration names other nodes",
    "other_backup_refused": "a node does not hear one that began with another backup",
    "other_cluster_refused": "a node does not hear one that was born in another cluster",
    "other_cluster_emptied": "the operator empties the folder of a node that was born in another cluster",
    "other_store_refused": "a node does not hear one that has another store than before",
    "lost_tail_refused": "a node does not hear one that lost what it had acknowledged, until it is readmitted automatically",
    "restored_alike": "folders that began with different backups are restored alike",
    "restored_written": "a cluster in which all folders began with the same backup answers a write as done",
    "earlier_led": "a cluster that began with the folders of an earlier version has a leader",
    "earlier_born": "a cluster that began with the folders of an earlier version gets its set of stores",
    "starved_left": "a leader whose process gets hardly any time, and that is cut off, leaves office",
    "leadership_transferred": "a node is elected because the leader transferred its leadership to it",
    "transfer_given_up": "a leader goes on leading, for the node that was to lead is not elected in time",
    "starved_stayed": "a leader whose process gets hardly any time, and that is not cut off, stays in office",
}


class Goals:
    """The coverage counters of one seed."""

    def __init__(self, servers: dict[NodeId, Server]) -> None:
        self.counts: Counter[str] = Counter()
        self._servers = servers
        self._began_with: Begun = ""
        """What all folders began with."""
        self._starved: dict[NodeId, tuple[Term, bool]] = {}
        """Leaders whose processes get hardly any processor time: their terms, and whether they are cut off."""
        self._leading: dict[NodeId, int] = {}
        self._led: set[NodeId] = set()
        self._taking_over: set[NodeId] = set()
        """Nodes that stood for election last because the leader asked them to."""
        self._crashed: set[NodeId] = set()
        self._stood_at: dict[NodeId, float] = {}
        """When each node last stood for election, by its own clock."""
        self._asked: set[tuple[NodeId, Term, NodeId]] = set()
        self._transfers: Counter[tuple[NodeId, Term, NodeId]] = Counter()
        self._pieces: set[tuple[NodeId, Term, NodeId, Index, int]] = set()
        self._stored: dict[NodeId, tuple[NodeId, Index, int]] = {}
        """For each follower with an incomplete snapshot: its sender, its last index, and the bytes received."""
        self._missing: set[NodeId] = set()
        """Leaders that miss a piece of the snapshot that they send."""
        self._taking_in: list[tuple[NodeId, Index]] = []
        """Nodes whose log holds an entry, not known to be committed, that readmits a node."""
        self._replacing: set[str] = set()
        """Stores that have taken the place of one that lost something."""
        self._restarted: set[NodeId] = set()
        """Followers that had a part of one when they crashed."""
        self.looks: Final[dict[type[Fact | HostFact], Look[Server]]] = {
            RoleChanged: self._role,
            TermChanged: self._term,
            PreVoteRefused: lambda server, fact: self._refusal("pre_vote_refused", fact.reason),
            VoteRefused: lambda server, fact: self._refusal("vote_refused", fact.reason),
            LogTruncated: self._truncated,
            AppendRejected: self._rejected,
            CommitAdvanced: self._commit,
            ReadServed: lambda server, fact: self.hit("reads_share_a_round" if fact.count > 1 else "read_served"),
            SnapshotTaken: lambda server, fact: self.hit("snapshot_taken"),
            SnapshotInstalled: lambda server, fact: self.hit("snapshot_installed"),
            SnapshotSent: self._transfer,
            NodeKilled: self._down,
            DiskFailed: self._down,
            NodeRecovered: self._up,
            LogsDiffer: lambda server, fact: self.hit("logs_differ_told"),
            TailLost: lambda server, fact: self.hit("tail_lost_told"),
            TransferEnded: lambda server, fact: self.hit("transfer_given_up"),
            MembersChanged: lambda server, fact: self._taking_in.append((server.node_id, fact.index)),
        }
        """Handlers of facts, by kind."""
        self.sent: Final[dict[type[Message], LookAtMessage[Server]]] = {
            VoteRequest: self._candidacy,
            SnapshotRequest: self._piece,
            SnapshotReply: self._reply,
            StillReceiving: self._receipt,
        }
        """Handlers of sent messages, by kind."""

    def hit(self, goal: str) -> None:
        """Count one occurrence."""
        assert goal in GOALS, goal
        self.counts[goal] += 1

    def began_with(self, begun_with: Sequence[Begun]) -> None:
        """The folders were made, one for each node."""
        self._began_with = begun_with[0] if len(set(begun_with)) == 1 else ""

    def written(self) -> None:
        """A write was answered as applied."""
        if self._began_with in ("monday", "tuesday"):
            self.hit("restored_written")

    def starved(self, server: Server, *, is_cut: bool) -> None:
        """A leader's process gets hardly any processor time from now on."""
        if server.core is not None and server.node_id in self._leading:
            self._starved[server.node_id] = server.core.current_term, is_cut

    def fed(self, server: Server) -> None:
        """The process gets all the processor time that it needs again."""
        term, is_cut = self._starved.pop(server.node_id, (0, False))
        if term and not is_cut and self._leading.get(server.node_id) == term:
            self.hit("starved_stayed")

    def _candidacy(self, server: Server, to: NodeId, message: VoteRequest) -> None:
        asked = (server.node_id, message.term, to)
        if asked in self._asked:
            self.hit("vote_asked_again")
        self._asked.add(asked)

    def _piece(self, server: Server, to: NodeId, message: SnapshotRequest) -> None:
        node_id, offset = server.node_id, message.offset
        piece = (node_id, message.term, to, message.snapshot.last_index, offset)
        if offset and piece in self._pieces:
            self.hit("piece_sent_again")
        self._pieces.add(piece)
        sender, _, stored = self._stored.get(to, (node_id, 0, 0))
        if stored and sender != node_id:
            self.hit("sender_changed")

    def _reply(self, server: Server, leader_id: NodeId, reply: SnapshotReply) -> None:
        node_id = server.node_id
        before = self._stored.get(node_id)
        if reply.installed:
            self._stored.pop(node_id, None)
            if not reply.bytes_stored:
                self.hit("snapshot_declined")
            return
        if server.core is None or server.core.leader_id != leader_id:
            return  # to a deposed one
        if reply.bytes_stored and node_id in self._restarted:
            self._restarted.discard(node_id)
            self.hit("receiver_restarted")
        if not reply.bytes_stored and before is not None and before[:2] == (leader_id, reply.last_index) and before[2]:
            self.hit("piece_damaged")
        self._stored[node_id] = (leader_id, reply.last_index, reply.bytes_stored)

    def _receipt(self, server: Server, to: NodeId, message: StillReceiving) -> None:
        self.hit("still_receiving")

    def missing_piece(self, server: Server) -> None:
        """A piece that is to be sent can't be read."""
        self.hit("piece_missing")
        self._missing.add(server.node_id)

    def installs(self, *, drops_entries: bool) -> None:
        """A snapshot is put in the place of a log."""
        if drops_entries:
            self.hit("install_drops_entries")

    def standing_written(self, standing: Standing) -> None:
        """A standing was written to a folder."""
        if self._began_with == "earlier" and standing.birth:
            self.hit("earlier_born")
        if standing.replaces:
            self._replacing.add(standing.store)
        elif standing.admitted and standing.store in self._replacing:
            self.hit("store_replaced")

    def refused(self, reason: str) -> None:
        """A server refused another one."""
        if "'s configuration names nodes" in reason:
            self.hit("other_list_refused")
        elif "began with another state" in reason:
            self.hit("other_backup_refused")
        elif "another cluster" in reason:
            self.hit("other_cluster_refused")
        elif "lost entries" in reason:
            self.hit("lost_tail_refused")
        elif "another store" in reason:
            self.hit("other_store_refused")

    def _term(self, server: Server, fact: TermChanged) -> None:
        if fact.term > 10:
            self.hit("term_above_10")

    def _truncated(self, server: Server, fact: LogTruncated) -> None:
        self.hit("truncation" if fact.last_index == fact.index else "truncation_of_two")
        if any(node_id == server.node_id and index >= fact.index for node_id, index in self._taking_in):
            self._taking_in = [each for each in self._taking_in if each[0] != server.node_id or each[1] < fact.index]
            self.hit("readmission_undone")

    def _rejected(self, server: Server, fact: AppendRejected) -> None:
        self.hit("append_rejected_old_term" if "is old" in fact.reason else "append_rejected_gap")

    def _transfer(self, server: Server, fact: SnapshotSent) -> None:
        if not fact.done:
            if server.node_id in self._missing:
                self._missing.discard(server.node_id)
                self.hit("snapshot_renewed")
            self._transfers[server.node_id, fact.term, fact.peer] += 1
            if self._transfers[server.node_id, fact.term, fact.peer] == 2:
                self.hit("snapshot_twice")

    def _role(self, server: Server, fact: RoleChanged) -> None:
        node_id = server.node_id
        self._leading.pop(node_id, None)
        if fact.new == "leader":
            self.hit("leader_re_elected" if node_id in self._led else "leader_elected")
            self._led.add(node_id)
            if self._began_with == "earlier":
                self.hit("earlier_led")
            if self._leading:
                self.hit("old_leader_lives")
            self._leading[node_id] = fact.term
            if server.local_now - self._stood_at.get(node_id, server.local_now) > ELECTION_S[1]:
                self.hit("elected_late")
            if fact.old == "pre_candidate":
                self.hit("elected_as_pre_candidate")
            if node_id in self._taking_over:
                self.hit("leadership_transferred")
        elif fact.new == "candidate":
            self._taking_over.discard(node_id)
            if fact.old == "follower":
                self._taking_over.add(node_id)
            self._stood_at[node_id] = server.local_now
        elif fact.old == "leader":
            why = "disk" if "its disk" in fact.reason else "quorum" if "majority" in fact.reason else "term"
            self.hit(f"leader_stepped_down_{why}")
            if self._starved.get(node_id) == (fact.term, True) and why == "quorum":
                self.hit("starved_left")
        elif fact.old == "candidate" and fact.new == "pre_candidate":
            self.hit("split_vote")
        elif fact.old == "candidate" and "leads term" in fact.reason:
            self.hit("candidate_follows")

    def _refusal(self, what: str, reason: str) -> None:
        if "ends at" in reason:
            self.hit(f"{what}_log")
        elif "already voted" in reason:
            self.hit(f"{what}_voted")
        elif "hears leader" in reason or "leads itself" in reason:
            self.hit(f"{what}_leader")
        else:
            self.hit(f"{what}_term")

    def _commit(self, server: Server, fact: CommitAdvanced) -> None:
        core = server.core
        if core is not None and server.node_id in self._leading and core.log.term(fact.old_index + 1) < fact.term:
            self.hit("commit_of_old_term")
        if fact.index - fact.old_index >= 10:
            self.hit("commit_of_many")

    def _down(self, server: Server, fact: NodeKilled | DiskFailed) -> None:
        self._leading.pop(server.node_id, None)
        self._crashed.add(server.node_id)
        if isinstance(fact, DiskFailed):
            self.hit("disk_failed")
        if all(other.core is None for other in self._servers.values()):
            self.hit("all_down")
        if len(self._crashed) == len(self._servers):
            self.hit("everybody_recovers")

    def before_crash(self, server: Server, *, writing: bool) -> None:
        """Count situations of a server that is about to crash."""
        core = server.core
        assert core is not None
        if server.node_id in self._leading and core.log.last_index > core.commit_index:
            self.hit("leader_crash_uncommitted")
        if writing:
            self.hit("crash_in_a_write")
        if server.life.wal.is_syncing:
            self.hit("crash_before_the_sync")
        if server.life.jobs.count["save"]:
            self.hit("crash_saving")
        if isinstance(core.role, Leader) and any(each.transfer is not None for each in core.role.progress.values()):
            self.hit("crash_sending")
        if core.snapshots.installing is not None:
            self.hit("crash_installing")
        if core.snapshots.receiving is not None:
            self.hit("crash_receiving")
        if self._stored.pop(server.node_id, (0, 0, 0))[2]:
            self._restarted.add(server.node_id)

    def _up(self, server: Server, fact: NodeRecovered) -> None:
        if fact.repaired:
            self.hit("torn_record_cut")
        ahead = max((other.core.log.last_index for other in self._servers.values() if other.core is not None), default=0)
        if ahead - fact.index >= 50:
            self.hit("catch_up_50")
        if server.was_superseded:
            self.hit("log_superseded")
        if fact.snapshot:
            self.hit("recovered_snapshot_alone" if fact.snapshot == fact.index else "recovered_snapshot_and_log")
        if sum(name.endswith(".log") for name in server.disk.names()) > 1:
            self.hit("several_segments")


def look_at_window(leader: Leader, core: Core, hit: Callable[[str], None]) -> None:
    """Count which bound of the window stops further appends."""
    pipeline, log = core.pipeline, core.log
    for progress in leader.progress.values():
        in_flight = list(progress.in_flight)
        if progress.in_flight_bytes >= pipeline.window_bytes and progress.next_index <= log.last_index:
            hit("window_full_by_bytes")
        for (before, _), (last, size) in pairwise(in_flight):
            is_cut = before >= log.start_index and last < progress.next_index - 1 and last - before < pipeline.batch_entries
            if is_cut and size + log.bytes_between(last, last + 1) > pipeline.batch_bytes:
                hit("batch_cut_by_bytes")
