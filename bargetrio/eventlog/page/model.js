"use strict";
// The cluster as its events tell it. Pure: apply(state, event) returns a new state and leaves the old one as it was, so that the
// state at any event can be kept and shown again. Terms, indices and names are the paper's.
window.Barge = window.Barge || {};
(function (Barge) {
  const KEPT_ENTRIES = 48;  // of each log; the page shows the last dozen

  // Kinds whose `term` is the current term of the node that tells (a pre-vote's is the term that would come, applied's the entry's).
  const TELLS_TERM = new Set(["role_changed", "term_changed", "vote_requested", "vote_granted", "append_sent", "append_accepted",
    "commit_advanced", "log_truncated", "node_recovered", "snapshot_taken", "snapshot_installed"]);

  function newNode(id) {
    return {
      id: id, state: "unknown", reason: "", role: null, term: 0, votedFor: null, votes: {}, leader: null, mayVote: true,
      last: 0, commit: 0, applied: 0, start: 0, snapshot: 0, log: [], heard: 0, peers: {}, down: {}, told: false
    };
  }

  // `views` are nodes as GET /nodes tells them: what is known of nodes that no event has told of yet.
  function initial(views) {
    const nodes = {};
    views.forEach(function (view) {
      const node = newNode(view.id);
      if (view.state) {
        node.state = view.state;
        node.reason = view.reason || "";
        node.role = view.role || null;
        node.term = view.term || 0;
        node.votedFor = view.voted_for === undefined ? null : view.voted_for;
        node.leader = view.leader === undefined ? null : view.leader;
        node.mayVote = view.may_vote !== false;
        node.last = view.last_log_index || 0;
        node.commit = view.commit_index || 0;
        node.applied = view.last_applied || 0;
        node.start = view.log_start || 0;
        node.snapshot = view.snapshot_index || 0;
      }
      nodes[view.id] = node;
    });
    return { time: 0, events: 0, runs: {}, nodes: nodes, ids: ids(nodes), faults: {} };
  }

  function ids(nodes) {
    return Object.keys(nodes).map(Number).sort(function (a, b) { return a - b; });
  }

  function apply(state, event) {
    const run = event.id.slice(0, event.id.lastIndexOf("-"));
    const next = Object.assign({}, state, { time: event.time, events: state.events + 1 });
    if (!state.runs[run]) {  // a daemon that was started again has forgotten its faults
      next.runs = Object.assign({}, state.runs, { [run]: true });
      next.faults = {};
    }
    if (event.kind === "faults_changed") { next.faults = event.detail.faults || {}; }
    if (event.node === null || event.node === undefined) { return next; }
    const node = change(next, event.node, {});
    note(node, event);
    const how = HOW[event.kind];
    if (how) { how(node, event, event.detail, next); }
    return next;
  }

  // A copy of one node, in place of the old one: the only way in which a state comes to differ from the one before.
  function change(state, id, fields) {
    const node = Object.assign({}, state.nodes[id] || newNode(id), fields);
    const isNew = !state.nodes[id];
    state.nodes = Object.assign({}, state.nodes, { [id]: node });
    if (isNew) { state.ids = ids(state.nodes); }
    return node;
  }

  function note(node, event) {
    const role = event.detail.role;
    node.told = true;
    if (TELLS_TERM.has(event.kind) && event.term > node.term) {
      node.term = event.term;
      node.votedFor = null;
      node.votes = {};
      if (node.role !== "leader") { node.leader = null; }
    }
    if (!role) { return; }
    if (role === "killed" || role === "crashed") {
      node.state = role;
      node.role = null;
    } else if (event.kind !== "node_revived") {
      node.state = "running";
      node.role = role;
      if (role === "leader") { node.leader = node.id; }
    }
  }

  const HOW = {
    role_changed: function (node, event, detail) {
      node.role = detail.new;
      node.reason = detail.reason || "";
      node.heard = event.time;
      node.peers = {};
      if (detail.new === "candidate") { node.votedFor = node.id; node.votes = { [node.id]: "granted" }; node.leader = null; }
      if (detail.new === "pre_candidate") { node.votes = { [node.id]: "pre" }; node.leader = null; }
      if (detail.new === "leader") { node.leader = node.id; }
      if (detail.new === "follower") { node.votes = {}; if (node.leader === node.id) { node.leader = null; } }
    },
    pre_vote_requested: function (node, event, detail) { knowLast(node, detail.last_log_index); },
    vote_requested: function (node, event, detail) { knowLast(node, detail.last_log_index); },
    pre_vote_granted: function (node, event, detail, state) { vote(state, node, event, "pre", "pre_candidate"); },
    pre_vote_refused: function (node, event, detail, state) { vote(state, node, event, "refused", "pre_candidate"); },
    vote_granted: function (node, event, detail, state) {
      node.votedFor = event.peer;
      node.heard = event.time;
      vote(state, node, event, "granted", "candidate");
    },
    vote_refused: function (node, event, detail, state) { vote(state, node, event, "refused", "candidate"); },
    append_sent: function (node, event, detail) {
      node.role = "leader";
      node.leader = node.id;
      node.commit = Math.max(node.commit, detail.leader_commit || 0);
      if (event.heartbeat) { return; }
      write(node, event, detail);
      peer(node, event.peer, { next: event.index + 1 });
    },
    append_accepted: function (node, event, detail, state) {
      node.heard = event.time;
      node.leader = event.peer;
      if (!event.heartbeat) {
        const leader = state.nodes[event.peer];
        copy(node, leader ? leader.log : [], event, detail);
      }
      const leader = state.nodes[event.peer];
      if (leader && leader.role === "leader" && leader.term === event.term) {
        const known = leader.peers[node.id] || {};
        const match = Math.max(known.match || 0, event.index);
        peer(change(state, leader.id, {}), node.id, { match: match, next: Math.max(known.next || 0, match + 1) });
      }
    },
    append_rejected: function (node, event, detail, state) {
      const leader = state.nodes[event.peer];
      if (leader && leader.role === "leader" && leader.term === event.term) {
        node.heard = event.time;
        peer(change(state, leader.id, {}), node.id, { next: Math.max(1, Math.min(event.index, node.last + 1)) });
      }
    },
    log_truncated: function (node, event) {
      node.last = event.index - 1;
      node.log = node.log.filter(function (entry) { return entry.index < event.index; });
    },
    commit_advanced: function (node, event) {
      node.commit = Math.max(node.commit, event.index);
      node.last = Math.max(node.last, event.index);
    },
    applied: function (node, event, detail) {
      node.applied = Math.max(node.applied, event.index);
      node.commit = Math.max(node.commit, event.index);
      fill(node, event, detail);
    },
    snapshot_taken: function (node, event, detail) {
      node.snapshot = Math.max(node.snapshot, event.index);
      begin(node, detail.log_start || 0);
    },
    snapshot_installed: function (node, event) {
      node.snapshot = event.index;
      node.log = node.log.filter(function (entry) { return entry.index > event.index; });
      node.last = Math.max(event.index, node.log.length ? node.log[node.log.length - 1].index : 0);
      node.commit = Math.max(node.commit, event.index);
      node.applied = Math.max(node.applied, event.index);
      node.heard = event.time;
      begin(node, event.index);
    },
    member_changed: function (node, event, detail) { node.mayVote = detail.may_vote; },
    node_killed: function (node) { forget(node, "killed", ""); },
    node_crashed: function (node, event, detail) { forget(node, "crashed", detail.reason || ""); },
    disk_failed: function (node, event, detail) { node.reason = "its disk failed: " + detail.reason; },
    node_revived: function (node) { node.state = "recovering"; node.role = null; },
    node_recovered: function (node, event, detail) {
      forget(node, "running", "");
      node.role = "follower";
      node.term = event.term;
      node.votedFor = detail.voted_for === undefined ? null : detail.voted_for;
      node.heard = event.time;
      node.snapshot = detail.snapshot || 0;
      node.commit = node.applied = node.snapshot;
      node.last = event.index;
      node.log = node.log.filter(function (entry) { return entry.index <= event.index; });
    },
    link_up: function (node, event) { node.down = Object.assign({}, node.down); delete node.down[event.peer]; },
    link_down: function (node, event) { node.down = Object.assign({}, node.down, { [event.peer]: true }); }
  };

  // Volatile state (the paper's figure 2) is gone; what is on the disk stays.
  function forget(node, state, reason) {
    Object.assign(node, { state: state, reason: reason, role: null, leader: null, votes: {}, peers: {}, down: {} });
  }

  // A dot for whoever asked, while it still asks, or has just won: a late word about a pre-vote is not one about the vote.
  function vote(state, voter, event, how, asked) {
    const candidate = state.nodes[event.peer];
    if (!candidate) { return; }
    const asks = candidate.role === asked || (asked === "candidate" && candidate.role === "leader");
    if (asks && candidate.term === (asked === "candidate" ? event.term : event.term - 1)) {
      change(state, candidate.id, { votes: Object.assign({}, candidate.votes, { [voter.id]: how }) });
    }
  }

  function peer(leader, id, fields) {
    leader.peers = Object.assign({}, leader.peers, { [id]: Object.assign({}, leader.peers[id], fields) });
  }

  function knowLast(node, index) {
    if (typeof index === "number") { node.last = index; }
  }

  function begin(node, start) {
    node.start = Math.max(node.start, start);
    node.log = node.log.filter(function (entry) { return entry.index > node.start; });
  }

  // What an event tells of terms: those of its first and last entry, and of all between if these are equal, since terms never fall.
  function termsOf(detail, last, lastTerm) {
    return function (index) {
      if (index === last) { return lastTerm === undefined ? null : lastTerm; }
      return index === detail.first_index || detail.first_term === lastTerm ? detail.first_term || null : null;
    };
  }

  function write(node, event, detail) {
    place(node, detail.first_index, event.index, detail.entries, termsOf(detail, event.index, detail.last_term));
  }

  // A follower's log is its leader's up to the entry that it has accepted (the log matching property).
  function copy(node, log, event, detail) {
    const terms = {}, texts = {}, told = termsOf(detail, event.index, detail.last_term);
    log.forEach(function (entry) { terms[entry.index] = entry.term; texts[entry.index] = entry.text; });
    place(node, detail.first_index, event.index, detail.entries, function (index) { return told(index) || terms[index] || null; }, texts);
  }

  // What an apply tells of entries that were not seen when they came: in a cluster of one, or on a page opened later.
  function fill(node, event, detail) {
    node.last = Math.max(node.last, event.index);
    place(node, detail.first_index, event.index, detail.entries, termsOf(detail, event.index, event.term), null, true);
  }

  function place(node, first, last, entries, termOf, texts, keep) {
    const old = {};
    node.log.forEach(function (entry) { old[entry.index] = entry; });
    const from = Math.max(first, last - KEPT_ENTRIES + 1);
    const log = node.log.filter(function (entry) { return entry.index < from || (keep && entry.index > last); });
    const after = log.filter(function (entry) { return entry.index > last; });
    const before = log.filter(function (entry) { return entry.index < from; });
    for (let index = from; index <= last; index += 1) {
      const told = entries && entries[index - first];
      const was = old[index];
      const term = termOf(index);
      const text = told ? told : texts && texts[index] ? texts[index] : was ? was.text : null;
      before.push({ index: index, term: term !== null ? term : was ? was.term : null, text: text });
    }
    node.log = before.concat(after).slice(-KEPT_ENTRIES);
    node.last = Math.max(node.last, last);
  }

  // -- what follows from a state ---------------------------------------------------------------------------------------------

  function leaderOf(state) {
    let found = null;
    state.ids.forEach(function (id) {
      const node = state.nodes[id];
      if (node.role === "leader" && node.state === "running" && (found === null || node.term > found.term)) { found = node; }
    });
    return found;
  }

  function groupOf(state, id) {
    const groups = state.faults.groups || [];
    if (!groups.length) { return 0; }
    const place = groups.findIndex(function (group) { return group.indexOf(id) >= 0; });
    return place < 0 ? -1 - id : place;  // a node in no group stands alone
  }

  function linkOf(state, from, to) {
    const found = (state.faults.links || []).filter(function (link) { return link.from === from && link.to === to; })[0] || {};
    return { cut: Boolean(found.cut) || groupOf(state, from) !== groupOf(state, to), delay: found.delay_ms || 0, drop: found.drop || 0 };
  }

  // The state with the nodes marked whose daemon does not answer: no event tells that.
  function unreachable(state, views) {
    const lost = state.ids.filter(function (id) { return views[id] && views[id].state === "unreachable"; });
    if (!lost.length) { return state; }
    const marked = Object.assign({}, state);
    lost.forEach(function (id) { change(marked, id, { state: "unreachable", reason: views[id].reason || "", role: null, votes: {} }); });
    return marked;
  }

  // Whether a node can reach nobody, whatever the others can.
  function isCutOff(state, id) {
    return state.ids.length > 1 && state.ids.every(function (other) { return other === id || linkOf(state, id, other).cut; });
  }

  function majority(state) { return Math.floor(state.ids.length / 2) + 1; }

  // The running nodes that can exchange messages with this one, both ways, and itself: those that could follow it.
  function reach(state, id) {
    return state.ids.filter(function (other) {
      const runs = state.nodes[other].state === "running" || state.nodes[other].state === "unknown";
      return runs && (other === id || (!linkOf(state, id, other).cut && !linkOf(state, other, id).cut));
    });
  }

  // How many nodes can work together under the best of the leaders that could be.
  function largestSide(state) {
    return Math.max.apply(null, state.ids.map(function (id) {
      const side = reach(state, id);
      return side.indexOf(id) < 0 ? 0 : side.length;
    }));
  }

  // What a person must know first; "" if all is well.
  function trouble(state) {
    if (!state.ids.length) { return ""; }
    const side = largestSide(state);
    if (side < majority(state)) {
      return "No quorum: " + side + " of " + state.ids.length + " nodes can work together, and it takes " + majority(state)
        + ". Nothing can be committed.";
    }
    const leader = leaderOf(state);
    if (!leader) { return "No leader: an election must be won before anything can be written."; }
    const followers = reach(state, leader.id);
    if (followers.length < majority(state)) {
      return "No leader with a quorum: node " + leader.id + " believes that it leads, but reaches only " + followers.length + " of "
        + state.ids.length + " nodes.";
    }
    return "";
  }

  // The message that an event stands for, if it is one: {from, to, kind, text, answer}.
  function messageOf(event) {
    const made = MESSAGES[event.kind];
    if (!made || event.peer === null || event.peer === undefined || event.node === null) { return null; }
    return { from: event.node, to: event.peer, kind: event.heartbeat ? "heartbeat" : made[0], text: made[1](event), answer: made[2] };
  }

  const MESSAGES = {
    pre_vote_requested: ["vote", function (e) { return "pre-vote " + e.term + "?"; }, false],
    pre_vote_granted: ["yes", function () { return "pre-vote"; }, true],
    pre_vote_refused: ["no", function () { return "no pre-vote"; }, true],
    vote_requested: ["vote", function (e) { return "vote " + e.term + "?"; }, false],
    vote_granted: ["yes", function () { return "vote"; }, true],
    vote_refused: ["no", function () { return "no"; }, true],
    append_sent: ["append", function (e) { return e.heartbeat ? "♥" : e.detail.first_index < e.index ? e.detail.first_index + "–" + e.index : "" + e.index; }, false],
    append_accepted: ["yes", function (e) { return e.heartbeat ? "♥" : "has " + e.index; }, true],
    append_rejected: ["no", function (e) { return "not at " + e.index; }, true],
    snapshot_sent: ["snapshot", function (e) { return "state to " + e.index; }, false]
  };

  Barge.model = {
    initial: initial, apply: apply, leaderOf: leaderOf, linkOf: linkOf, isCutOff: isCutOff, unreachable: unreachable, majority: majority, trouble: trouble,
    messageOf: messageOf, KEPT_ENTRIES: KEPT_ENTRIES
  };
})(window.Barge);
