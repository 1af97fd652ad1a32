"""One sentence per event, for the table on the page.

The sentences alone must suffice to follow an election or a write: which nodes, term and entries, and the reason of a refusal.
"""

from collections.abc import Callable
from typing import Any, Final

from bargetrio.eventlog.preview import preview_text
from bargetrio.protocol.events import Event


def sentence(event: Event) -> str:
    """Return the event in words, from the point of view of its node."""
    sentence = _SENTENCES.get(event.kind)
    return sentence(event, event.detail) if sentence is not None else event.kind.replace("_", " ")


def entries_text(event: Event) -> str:
    """Return the entries of an append or apply: `{key: 100, value: "Some Value"}`, and how many more there are."""
    shown = [preview_text(entry) for entry in event.detail.get("entries", ())]
    more = int(event.detail.get("count") or _applied_count(event)) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def span(first: int | None, last: int | None) -> str:
    """Return `entry 7` or `entries 7 to 9`."""
    return f"entry {last}" if first is None or first == last else f"entries {first} to {last}"


def _applied_count(event: Event) -> int:
    first = event.detail.get("first_index")
    return 0 if first is None or event.index is None else event.index - int(first) + 1


def _role(event: Event, detail: dict[str, Any]) -> str:
    new = str(detail["new"]).replace("_", "-")
    return f"becomes {new} in term {event.term}: {detail['reason']}"


def _append_sent(event: Event, detail: dict[str, Any]) -> str:
    if event.heartbeat:
        return f"heartbeat to node {event.peer} (term {event.term}, commit {detail['leader_commit']})"
    what = span(detail["first_index"], event.index)
    return f"appends to node {event.peer}: {what} {entries_text(event)} (term {event.term}, commit {detail['leader_commit']})"


def _append_accepted(event: Event, detail: dict[str, Any]) -> str:
    if event.heartbeat:
        return f"heartbeat from node {event.peer} (term {event.term})"
    return f"takes from node {event.peer}: {span(detail['first_index'], event.index)} {entries_text(event)} (term {event.term})"


def _commit(event: Event, detail: dict[str, Any]) -> str:
    first = int(detail["old_index"]) + 1
    return f"committed: {span(first, event.index)} (term {event.term})"


def _recovered(event: Event, detail: dict[str, Any]) -> str:
    voted = "" if detail["voted_for"] is None else f", its vote went to node {detail['voted_for']}"
    repaired = f"; {detail['repaired']}" if detail["repaired"] else ""
    snapshot = f"snapshot up to {detail['snapshot']}, " if detail.get("snapshot") else ""
    return f"recovered in {detail['seconds']:.3f} s: {snapshot}log up to {event.index}, term {event.term}{voted}{repaired}"


def _snapshot_taken(event: Event, detail: dict[str, Any]) -> str:
    return f"saved a snapshot up to entry {event.index} ({detail['size']:,} bytes); {_log_begins(int(detail['log_start']))}"


def _snapshot_sent(event: Event, detail: dict[str, Any]) -> str:
    if detail["done"]:
        return f"node {event.peer} has the state up to entry {event.index}; entries follow (term {event.term})"
    size = f"{detail['size']:,} bytes"
    return (
        f"sends node {event.peer} the state up to entry {event.index} ({size}): its next entry was compacted (term {event.term})"
    )


def _snapshot_installed(event: Event, detail: dict[str, Any]) -> str:
    what = f"installs node {event.peer}'s state up to entry {event.index} ({detail['size']:,} bytes)"
    return f"{what}; {_log_begins(event.index or 0)} (term {event.term})"


def _log_begins(start: int) -> str:
    return f"its log begins after entry {start}" if start else "its log is kept whole"


def _answered(event: Event, detail: dict[str, Any]) -> str:
    how = f"with {detail['error']}" if detail["error"] else "ok"
    return f"answers {_count(detail['count'], detail['op'])} {how}"


def _received(event: Event, detail: dict[str, Any]) -> str:
    return f"asked for {_count(detail['count'], detail['op'])}: {entries_text(event)}"


def _count(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"


def _last(event: Event, detail: dict[str, Any]) -> str:
    return f"(last entry {detail['last_log_index']}, term {detail['last_log_term']})"


_SENTENCES: Final[dict[str, Callable[[Event, dict[str, Any]], str]]] = {
    "role_changed": _role,
    "term_changed": lambda e, d: f"term {d['old_term']} → {e.term}: {d['reason']}",
    "pre_vote_requested": lambda e, d: f"asks node {e.peer} for a pre-vote in term {e.term} {_last(e, d)}",
    "pre_vote_granted": lambda e, d: f"grants node {e.peer} a pre-vote in term {e.term}",
    "pre_vote_refused": lambda e, d: f"refuses node {e.peer} a pre-vote in term {e.term}: {d['reason']}",
    "vote_requested": lambda e, d: f"asks node {e.peer} for its vote in term {e.term} {_last(e, d)}",
    "vote_granted": lambda e, d: f"votes for node {e.peer} in term {e.term}",
    "vote_refused": lambda e, d: f"refuses node {e.peer} its vote in term {e.term}: {d['reason']}",
    "transfer_began": lambda e, d: f"transfers its leadership to node {e.peer}: takes no writes until that is elected",
    "transfer_ended": lambda e, d: f"goes on leading, node {e.peer} does not take over: {d['reason']}",
    "append_sent": _append_sent,
    "append_accepted": _append_accepted,
    "append_rejected": lambda e, d: f"rejects an append of node {e.peer} at index {e.index} (term {e.term}): {d['reason']}",
    "log_truncated": lambda e, d: f"deletes {span(e.index, d['last_index'])}: the leader's log differs there",
    "commit_advanced": _commit,
    "applied": lambda e, d: f"applied: {span(d['first_index'], e.index)} {entries_text(e)}",
    "request_received": _received,
    "request_answered": _answered,
    "read_served": lambda e, d: f"serves {_count(d['count'], 'read')} at index {e.index}, confirmed by a majority",
    "snapshot_taken": _snapshot_taken,
    "snapshot_sent": _snapshot_sent,
    "snapshot_installed": _snapshot_installed,
    "member_changed": lambda event, detail: str(detail["reason"]),
    "members_changed": lambda e, d: f"node {e.peer} has a new disk: it counts once entry {e.index} is committed without it",
    "logs_differ": lambda e, d: f"its log is not node {e.peer}'s, though entry {e.index} has the same term in both",
    "tail_lost": lambda e, d: f"node {e.peer} has lost entries up to {e.index} that it had acknowledged: it is not counted",
    "node_killed": lambda e, d: "killed",
    "node_revived": lambda e, d: "revived: recovering",
    "node_crashed": lambda e, d: f"crashed: {d['reason']}",
    "node_recovered": _recovered,
    "faults_changed": lambda e, d: d["text"],
    "disk_space": lambda e, d: (
        f"its disk is nearly full ({d['free_bytes']} bytes are free): it proposes no writes"
        if d["is_low"]
        else f"its disk has space again ({d['free_bytes']} bytes)"
    ),
    "disk_failed": lambda e, d: f"its disk failed: {d['reason']}",
    "link_up": lambda e, d: f"connected to node {e.peer}",
    "link_down": lambda e, d: f"no connection to node {e.peer}: {d['reason']}",
}
