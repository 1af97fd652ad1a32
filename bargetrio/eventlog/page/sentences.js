"use strict";
// One sentence an event, the same as sentences.py makes (tests/browser compares them over whole runs): the page makes them itself, so
// that a thousand events a second cost the daemon no words.
window.Barge = window.Barge || {};
(function (Barge) {
  function number(value) { return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ","); }
  function count(n, noun) { return n === 1 ? "1 " + noun : number(n) + " " + noun + "s"; }
  function span(first, last) { return first === null || first === undefined || first === last ? "entry " + last : "entries " + first + " to " + last; }
  function beginning(start) { return start ? "its log begins after entry " + start : "its log is kept whole"; }
  function ends(d) { return "(last entry " + d.last_log_index + ", term " + d.last_log_term + ")"; }

  function entry(preview) {
    if (preview.no_op) { return "{no-op}"; }
    if (preview.members) { return "{members}"; }
    if ("unreadable" in preview) { return "{unreadable}"; }
    const parts = ["key: " + preview.key];
    if (preview.delete) { parts.push("delete"); }
    else if ("value" in preview) { parts.push('value: "' + preview.value + '"'); }
    else if ("value_b64" in preview) { parts.push("value_b64: " + preview.value_b64); }
    if ("if_index" in preview) { parts.push("if_index: " + preview.if_index); }
    if (preview.if_absent) { parts.push("if_absent"); }
    return "{" + parts.join(", ") + "}";
  }

  function entries(e, d) {
    const shown = (d.entries || []).map(entry);
    const applied = d.first_index === undefined || d.first_index === null || e.index === null ? 0 : e.index - d.first_index + 1;
    const more = (d.count || applied) - shown.length;
    return shown.join(", ") + (more > 0 ? " and " + number(more) + " more" : "");
  }

  const TELL = {
    role_changed: function (e, d) { return "becomes " + d.new.replace(/_/g, "-") + " in term " + e.term + ": " + d.reason; },
    term_changed: function (e, d) { return "term " + d.old_term + " → " + e.term + ": " + d.reason; },
    pre_vote_requested: function (e, d) { return "asks node " + e.peer + " for a pre-vote in term " + e.term + " " + ends(d); },
    pre_vote_granted: function (e) { return "grants node " + e.peer + " a pre-vote in term " + e.term; },
    pre_vote_refused: function (e, d) { return "refuses node " + e.peer + " a pre-vote in term " + e.term + ": " + d.reason; },
    vote_requested: function (e, d) { return "asks node " + e.peer + " for its vote in term " + e.term + " " + ends(d); },
    vote_granted: function (e) { return "votes for node " + e.peer + " in term " + e.term; },
    vote_refused: function (e, d) { return "refuses node " + e.peer + " its vote in term " + e.term + ": " + d.reason; },
    append_sent: function (e, d) {
      const end = " (term " + e.term + ", commit " + d.leader_commit + ")";
      return e.heartbeat ? "heartbeat to node " + e.peer + end
        : "appends to node " + e.peer + ": " + span(d.first_index, e.index) + " " + entries(e, d) + end;
    },
    append_accepted: function (e, d) {
      return e.heartbeat ? "heartbeat from node " + e.peer + " (term " + e.term + ")"
        : "takes from node " + e.peer + ": " + span(d.first_index, e.index) + " " + entries(e, d) + " (term " + e.term + ")";
    },
    append_rejected: function (e, d) { return "rejects an append of node " + e.peer + " at index " + e.index + " (term " + e.term + "): " + d.reason; },
    log_truncated: function (e, d) { return "deletes " + span(e.index, d.last_index) + ": the leader's log differs there"; },
    commit_advanced: function (e, d) { return "committed: " + span(d.old_index + 1, e.index) + " (term " + e.term + ")"; },
    applied: function (e, d) { return "applied: " + span(d.first_index, e.index) + " " + entries(e, d); },
    request_received: function (e, d) { return "asked for " + count(d.count, d.op) + ": " + entries(e, d); },
    request_answered: function (e, d) { return "answers " + count(d.count, d.op) + " " + (d.error ? "with " + d.error : "ok"); },
    read_served: function (e, d) { return "serves " + count(d.count, "read") + " at index " + e.index + ", confirmed by a majority"; },
    snapshot_taken: function (e, d) { return "saved a snapshot up to entry " + e.index + " (" + number(d.size) + " bytes); " + beginning(d.log_start); },
    snapshot_sent: function (e, d) {
      return d.done ? "node " + e.peer + " has the state up to entry " + e.index + "; entries follow (term " + e.term + ")"
        : "sends node " + e.peer + " the state up to entry " + e.index + " (" + number(d.size) + " bytes): its next entry was compacted (term " + e.term + ")";
    },
    snapshot_installed: function (e, d) {
      return "installs node " + e.peer + "'s state up to entry " + e.index + " (" + number(d.size) + " bytes); "
        + beginning(e.index || 0) + " (term " + e.term + ")";
    },
    member_changed: function (e, d) { return String(d.reason); },
    members_changed: function (e) { return "node " + e.peer + " has a new disk: it counts once entry " + e.index + " is committed without it"; },
    logs_differ: function (e) { return "its log is not node " + e.peer + "'s, though entry " + e.index + " has the same term in both"; },
    transfer_began: function (e) { return "transfers its leadership to node " + e.peer + ": takes no writes until that is elected"; },
    transfer_ended: function (e, d) { return "goes on leading, node " + e.peer + " does not take over: " + d.reason; },
    tail_lost: function (e) { return "node " + e.peer + " has lost entries up to " + e.index + " that it had acknowledged: it is not counted"; },
    node_killed: function () { return "killed"; },
    node_revived: function () { return "revived: recovering"; },
    node_crashed: function (e, d) { return "crashed: " + d.reason; },
    node_recovered: function (e, d) {
      return "recovered in " + d.seconds.toFixed(3) + " s: " + (d.snapshot ? "snapshot up to " + d.snapshot + ", " : "") + "log up to " + e.index
        + ", term " + e.term + (d.voted_for === null ? "" : ", its vote went to node " + d.voted_for) + (d.repaired ? "; " + d.repaired : "");
    },
    faults_changed: function (e, d) { return d.text; },
    disk_space: function (e, d) {
      return d.is_low ? "its disk is nearly full (" + d.free_bytes + " bytes are free): it proposes no writes"
        : "its disk has space again (" + d.free_bytes + " bytes)";
    },
    disk_failed: function (e, d) { return "its disk failed: " + d.reason; },
    link_up: function (e) { return "connected to node " + e.peer; },
    link_down: function (e, d) { return "no connection to node " + e.peer + ": " + d.reason; }
  };

  function sentence(event) {
    const tell = TELL[event.kind];
    return tell ? tell(event, event.detail) : event.kind.replace(/_/g, " ");
  }

  Barge.words = { sentence: sentence, entry: entry, number: number };
})(window.Barge);
