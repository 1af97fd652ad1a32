"use strict";
// What stands beside the ring: a card per node, the logs as columns, and the table of events. Each draws a state and nothing else.
window.Barge = window.Barge || {};
(function (Barge) {
  const h = Barge.dom.h, say = Barge.dom.say, attribute = Barge.dom.attribute, keyed = Barge.dom.keyed;
  const SHOWN_ENTRIES = 10, ROWS_BEFORE = 120, ROWS_AFTER = 12;

  // -- the cards ---------------------------------------------------------------------------------------------------------------

  function Cards(root, act, choose) {
    this.root = root;
    this.act = act;
    this.choose = choose;
  }

  Cards.prototype.draw = function (state, live, selected, known) {
    const self = this;
    keyed(this.root, state.ids, String, function (id) { return self.make(id); }, function (card, id) { self.change(card, state, id, live, selected === id, known[id]); });
  };

  Cards.prototype.make = function (id) {
    const self = this;
    const button = function (name, text) {
      return h("button", { type: "button", "data-act": name, "data-id": id, text: text, onclick: function () { self.act(name, id); } });
    };
    return h("article", { class: "card", "data-node": id, "aria-label": "node " + id }, [
      h("button", { type: "button", class: "card-head", "aria-expanded": "false", onclick: function () { self.choose(id); } }, [
        h("span", { class: "card-id", text: "node " + id }), h("span", { class: "word" }), h("span", { class: "chip" }), h("span", { class: "card-log" })]),
      h("div", { class: "row acts live-only" }, [button("kill", "Kill"), button("revive", "Revive"), button("cut", "Cut off"), button("disk", "Slow disk"), button("links", "Slow links")]),
      h("dl", { class: "facts" })]);
  };

  Cards.prototype.change = function (card, state, id, live, selected, view) {
    const node = state.nodes[id], word = Barge.dom.roleWord(node), head = card.children[0].children;
    attribute(card, "class", "card role-" + word + (selected ? " selected" : ""));
    attribute(card.children[0], "aria-expanded", selected);
    say(head[1], (word === "leader" ? "★ " : "") + word);
    say(head[2], "term " + node.term);
    attribute(head[2], "class", "chip term-" + node.term % 8);
    say(head[3], "log " + node.last + " · committed " + node.commit);
    const stopped = node.state === "killed" || node.state === "crashed";
    const cut = Barge.model.isCutOff(state, id);
    const disk = (state.faults.disks || []).some(function (fault) { return fault.node === id; });
    const links = (state.faults.links || []).some(function (link) { return (link.from === id || link.to === id) && link.delay_ms; });
    card.querySelectorAll("[data-act]").forEach(function (button) {
      const name = button.dataset.act;
      button.hidden = name === "kill" ? stopped : name === "revive" ? !stopped : false;
      button.disabled = !live;
      if (name === "cut") { say(button, cut ? "Reconnect" : "Cut off"); attribute(button, "aria-pressed", cut); }
      if (name === "disk") { attribute(button, "aria-pressed", disk); }
      if (name === "links") { attribute(button, "aria-pressed", links); }
    });
    const facts = card.children[2];
    facts.hidden = !selected;
    if (selected) { keyed(facts, factsOf(node, live ? view : null), function (fact) { return fact[0]; }, function (fact) {
      return h("div", {}, [h("dt", { text: fact[0] }), h("dd")]);
    }, function (row, fact) { say(row.children[1], fact[1]); }); }
  };

  function factsOf(node, view) {
    const none = function (value) { return value === null || value === undefined ? "none" : String(value); };
    const facts = [["state", node.state + (node.reason && !node.role ? ": " + node.reason : "")], ["role", node.role ? Barge.dom.roleWord(node) + (node.reason ? ": " + node.reason : "") : "none"], ["voted for", none(node.votedFor)], ["follows", none(node.leader)],
      ["last log index", String(node.last)], ["commit index", String(node.commit)], ["last applied", String(node.applied)],
      ["log begins after", String(node.start)], ["snapshot up to", String(node.snapshot)]];
    if (!node.mayVote) { facts.push(["may vote", "no: its disk was replaced, and it has not caught up"]); }
    Object.keys(node.role === "leader" ? node.peers : {}).forEach(function (id) {
      facts.push(["node " + id, "match " + none(node.peers[id].match) + ", next " + none(node.peers[id].next)]);
    });
    if (!view) { return facts; }
    facts.unshift(["address", view.address], ["API", view.api]);
    facts.push(["as the node reports", view.state + (view.role ? ", " + view.role.replace("_", "-") + ", term " + view.term + ", voted for " + none(view.voted_for)
      + ", follows " + none(view.leader) + ", log " + view.last_log_index + " of term " + view.last_log_term + ", commit " + view.commit_index
      + ", applied " + view.last_applied : "") + (view.reason ? ": " + view.reason : "")]);
    (view.peers || []).forEach(function (peer) {
      facts.push(["link to node " + peer.id, (peer.connected ? "connected" : peer.refused ? "refused: " + peer.refused : "not connected")
        + (peer.progress ? ", " + peer.progress + ", match " + peer.match_index + ", next " + peer.next_index : "")]);
    });
    return facts;
  }

  // -- the logs ----------------------------------------------------------------------------------------------------------------

  // One table for good, whose cells are written anew: with a new one for each drawing a page under load grew by 14 MB a minute.
  function Logs(root) {
    this.drawn = "";
    this.head = h("tr");
    this.body = h("tbody");
    root.append(h("table", { class: "logs" }, [h("thead", {}, [this.head]), this.body]));
  }

  Logs.prototype.draw = function (state) {
    const nodes = state.ids.map(function (id) { return state.nodes[id]; });
    const top = Math.max.apply(null, [0].concat(nodes.map(function (node) { return node.last; })));
    const leader = Barge.model.leaderOf(state);
    const low = Math.max(1, top - SHOWN_ENTRIES + 1);
    const mark = JSON.stringify([state.ids, top, nodes.map(function (n) {
      return [n.last, n.commit, n.applied, n.role, n.state, n.term, n.start, n.log.length && n.log[n.log.length - 1].term, n.peers];
    })]);
    if (mark === this.drawn) { return; }
    this.drawn = mark;
    keyed(this.head, [null].concat(nodes), function (node) { return node ? node.id : "index"; }, function (node) {
      return h("th", { scope: "col" }, node ? [h("span", { class: "word", text: "node " }), String(node.id), h("small")] : ["index"]);
    }, function (cell, node) {
      if (!node) { return; }
      attribute(cell, "class", "role-" + Barge.dom.roleWord(node));
      say(cell.lastChild, Barge.dom.roleWord(node));
    });
    const rows = leader && top >= low ? [top + 1] : [];  // above the newest entry there is room for what is sent next
    for (let index = top; index >= low; index -= 1) { rows.push(index); }
    keyed(this.body, rows.length ? rows : [null], function (index) { return index === null ? "none" : top - index; }, function (index) {
      return h("tr", {}, [index === null ? h("td", { text: "No log has an entry yet." }) : h("th", { scope: "row" })]);
    }, function (row, index) {
      if (index === null) { attribute(row.firstChild, "colspan", nodes.length + 1); } else { changeRow(row, index, nodes, leader, index > top); }
    });
  };

  function changeRow(row, index, nodes, leader, beyond) {
    attribute(row, "class", beyond ? "beyond" : null);
    say(row.firstChild, beyond ? "" : String(index));
    keyed(row, [null].concat(nodes), function (node) { return node ? node.id : "index"; }, function (node) {
      return node ? h("td") : row.firstChild;
    }, function (cell, node) {
      if (!node) { return; }
      attribute(cell, "class", index === node.commit && index > 0 ? "commit-line" : null);
      const parts = index <= node.last && !beyond ? [entryOf(node, index)] : [];
      keyed(cell, leader === node ? parts.concat(marksOf(node, index)) : parts, function (part) { return part.key; }, function (part) {
        return h("span", {}, part.words.map(function (word, i) { return h(i + 1 < part.words.length ? "b" : "span"); }));
      }, function (span, part) {
        attribute(span, "class", part.look);
        attribute(span, "title", part.title);
        part.words.forEach(function (word, i) { say(span.children[i], word); });
      });
    });
  }

  const MARKS = [["match", "has the log up to here"], ["next", "is sent this next"]];

  function marksOf(leader, index) {
    return MARKS.map(function (mark) {
      const found = Object.keys(leader.peers).filter(function (id) { return leader.peers[id][mark[0]] === index; });
      return found.length ? { key: mark[0], look: "mark " + mark[0], title: "node " + found.join(", ") + " " + mark[1], words: [mark[0] + " " + found.join(" ")] } : null;
    }).filter(Boolean);
  }

  function entryOf(node, index) {
    const entry = node.log.filter(function (e) { return e.index === index; })[0];
    const open = index <= node.commit ? "" : " open";
    const words = index <= node.commit ? index <= node.applied ? "committed and applied" : "committed" : "not known to be committed";
    if (!entry) {
      const where = index <= node.start ? "in the snapshot" : "not seen by this page";
      return { key: "entry", look: "entry unseen" + open, title: where + "; " + words, words: ["", index <= node.start ? "snapshot" : "·"] };
    }
    const text = entry.text ? Barge.words.entry(entry.text) : "entry";
    return { key: "entry", look: "entry" + open + " term-" + (entry.term === null ? "unknown" : entry.term % 8), title: text + "; " + words,
      words: [entry.term === null ? "?" : String(entry.term), shortOf(entry.text)] };
  }

  function shortOf(preview) {
    if (!preview) { return "…"; }
    if (preview.no_op) { return "no-op"; }
    if (preview.members) { return "members"; }
    if (preview.unreadable) { return "?"; }
    return preview.delete ? "del " + preview.key : preview.key + "=" + (preview.value !== undefined ? preview.value : preview.value_b64 || "");
  }

  // -- the table ---------------------------------------------------------------------------------------------------------------

  const WRITES = new Set(["request_received", "append_sent", "append_accepted", "append_rejected", "commit_advanced", "applied", "request_answered",
    "read_served", "log_truncated"]);
  const PASSES = {
    "": function () { return true; },
    election: function (event) { return Barge.ELECTION.has(event.kind) || /vote|term_changed/.test(event.kind); },
    write: function (event) { return WRITES.has(event.kind); },
    fault: function (event) { return Barge.FAULT.has(event.kind) || /^link_|recovered|member/.test(event.kind); }
  };

  function Table(root, go) { this.root = root; this.go = go; this.head = ""; this.body = h("tbody"); }

  // The newest first: a few events that are to come, in grey, and before them what has happened.
  Table.prototype.draw = function (timeline, place, state, filter, beats) {
    const passes = PASSES[filter] || PASSES[""], self = this, rows = [];
    const shown = function (event) { return passes(event) && (beats || !event.heartbeat); };
    let later = [];
    for (let i = place; i < timeline.last() && later.length < ROWS_AFTER; i += 1) { if (shown(timeline.event(i))) { later.push(i); } }
    later.reverse().forEach(function (i) { rows.push(i); });
    for (let i = place - 1; i >= timeline.first && rows.length < ROWS_BEFORE + ROWS_AFTER; i -= 1) { if (shown(timeline.event(i))) { rows.push(i); } }
    this.drawHead(state);
    keyed(this.body, rows, String, function (i) { return self.row(timeline.event(i), i, state); }, function (row, i) {
      attribute(row, "class", i >= place ? "to-come" : i === place - 1 ? "current" : "");
      attribute(row, "aria-current", i === place - 1 ? "step" : null);
    });
  };

  Table.prototype.drawHead = function (state) {
    const mark = state.ids.map(function (id) { return id + Barge.dom.roleWord(state.nodes[id]) + state.nodes[id].term; }).join();
    if (mark === this.head) { return; }
    this.head = mark;
    const head = h("tr", {}, [h("th", { scope: "col", text: "time" })].concat(state.ids.map(function (id) {
      const word = Barge.dom.roleWord(state.nodes[id]);
      return h("th", { scope: "col", class: "role-" + word }, [h("span", { text: "node " + id }), h("small", { text: word + ", term " + state.nodes[id].term })]);
    })));
    this.root.replaceChildren(h("thead", {}, [head]), this.body);
  };

  Table.prototype.row = function (event, place, state) {
    const self = this, ids = state.ids;
    const go = function (click) { click.preventDefault(); self.go(place + 1); };
    const cells = [h("td", {}, [h("a", { href: "#id=" + encodeURIComponent(event.id), tabindex: -1, text: Barge.dom.clock(event.time), onclick: go })])];
    const text = [h("span", { class: "kind", text: event.kind }), h("span", { text: Barge.words.sentence(event) })];
    const column = ids.indexOf(event.node);
    if (column < 0) { cells.push(h("td", { colspan: ids.length, class: "all" }, text)); }
    else {
      ids.forEach(function (id, i) {
        const role = String(event.detail.role || "none").replace("_", "-");
        cells.push(i === column ? h("td", { class: "told role-" + role, "data-column": "node " + id }, text) : h("td", { class: "empty" }));
      });
    }
    return h("tr", { "data-id": event.id, "data-kind": event.kind }, cells);
  };

  Barge.Cards = Cards;
  Barge.Logs = Logs;
  Barge.Table = Table;
  Barge.passes = PASSES;
})(window.Barge);
