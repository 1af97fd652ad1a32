"use strict";
// The nodes on a ring: role by shape and word, term by colour and number, votes as dots, the election timer as an arc, messages as pulses.
window.Barge = window.Barge || {};
(function (Barge) {
  const svg = Barge.dom.svg, say = Barge.dom.say, attribute = Barge.dom.attribute, keyed = Barge.dom.keyed;
  const CENTRE = { x: 320, y: 196 }, RADIUS = 138, SIZE = 40, PULSES = 60;

  const SHAPES = {
    follower: circle(SIZE), leader: star(SIZE + 8), candidate: polygon(4, SIZE + 8), "pre-candidate": polygon(4, SIZE + 2),
    killed: polygon(8, SIZE), crashed: polygon(8, SIZE), unreachable: polygon(6, SIZE), recovering: circle(SIZE - 4), unknown: circle(SIZE)
  };

  function circle(r) { return "M" + -r + " 0a" + r + " " + r + " 0 1 0 " + 2 * r + " 0a" + r + " " + r + " 0 1 0 " + -2 * r + " 0z"; }
  function polygon(sides, r) {
    const turn = sides === 8 ? Math.PI / 8 : 0;
    return points(sides, function (i) { return { r: r, a: turn + 2 * Math.PI * i / sides - Math.PI / 2 }; });
  }
  function star(r) { return points(16, function (i) { return { r: i % 2 ? r - 7 : r, a: 2 * Math.PI * i / 16 - Math.PI / 2 }; }); }
  function points(count, at) {
    let path = "";
    for (let i = 0; i < count; i += 1) {
      const p = at(i);
      path += (i ? "L" : "M") + (p.r * Math.cos(p.a)).toFixed(1) + " " + (p.r * Math.sin(p.a)).toFixed(1);
    }
    return path + "z";
  }

  function arc(r, share) {
    if (share <= 0) { return ""; }
    const a = Math.min(share, 0.9999) * 2 * Math.PI;
    return "M0 " + -r + "A" + r + " " + r + " 0 " + (a > Math.PI ? 1 : 0) + " 1 " + (r * Math.sin(a)).toFixed(2) + " " + (-r * Math.cos(a)).toFixed(2);
  }

  // `chosen(id)` and `linkChosen(a, b)` are told of clicks.
  function Ring(root, chosen, linkChosen) {
    this.links = svg("g", { class: "links" });
    this.pulses = svg("g", { class: "pulses", "aria-hidden": "true" });
    this.still = svg("g", { class: "pulses", "aria-hidden": "true" });
    this.nodes = svg("g", { class: "nodes" });
    root.append(this.links, this.nodes, this.pulses, this.still);
    this.chosen = chosen;
    this.linkChosen = linkChosen;
    this.flying = [];
    this.places = {};
    this.calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  }

  Ring.prototype.place = function (ids) {
    const places = this.places = {}, r = ids.length === 1 ? 0 : RADIUS;
    const angles = ids.map(function (id, i) { return 2 * Math.PI * i / ids.length - Math.PI / 2; });
    const low = Math.max.apply(null, angles.map(Math.sin)), high = Math.min.apply(null, angles.map(Math.sin));
    const stretch = ids.length > 1 ? 2 / (low - high) : 1;  // three nodes use the height that four do
    ids.forEach(function (id, i) {
      places[id] = { x: CENTRE.x + 1.5 * r * Math.cos(angles[i]), y: CENTRE.y + r * ((Math.sin(angles[i]) - high) * stretch - 1) };
    });
  };

  Ring.prototype.draw = function (state, selected) {
    this.place(state.ids);
    const self = this, pairs = [];
    state.ids.forEach(function (a) { state.ids.forEach(function (b) { if (a < b) { pairs.push([a, b]); } }); });
    keyed(this.links, pairs, String, function (pair) { return self.newLink(pair); }, function (g, pair) { self.drawLink(g, state, pair); });
    keyed(this.nodes, state.ids, String, function (id) { return self.newNode(id); }, function (g, id) { self.drawNode(g, state, id, selected === id); });
  };

  Ring.prototype.newLink = function (pair) {
    const self = this;
    const choose = function () { self.linkChosen(pair[0], pair[1]); };
    return svg("g", { role: "button", tabindex: 0, onclick: choose, onkeydown: onEnter(choose) }, [
      svg("line", { class: "line" }), svg("line", { class: "hit" }), svg("text", { class: "link-text", "text-anchor": "middle" })]);
  };

  Ring.prototype.drawLink = function (g, state, pair) {
    const a = this.places[pair[0]], b = this.places[pair[1]];
    const ways = [Barge.model.linkOf(state, pair[0], pair[1]), Barge.model.linkOf(state, pair[1], pair[0])];
    const cut = ways.filter(function (way) { return way.cut; }).length;
    const delay = Math.max(ways[0].delay, ways[1].delay), drop = Math.max(ways[0].drop, ways[1].drop);
    const dead = [state.nodes[pair[0]], state.nodes[pair[1]]].some(function (node) { return node.state === "killed" || node.state === "crashed"; });
    const word = cut === 2 ? "✂ cut" : cut ? "✂ cut one way" : delay ? "slow: " + delay + " ms" : drop ? "drops " + Math.round(drop * 100) + " %" : "";
    [0, 1].forEach(function (i) {
      attribute(g.children[i], "x1", a.x); attribute(g.children[i], "y1", a.y);
      attribute(g.children[i], "x2", b.x); attribute(g.children[i], "y2", b.y);
    });
    attribute(g.children[2], "x", (a.x + b.x) / 2); attribute(g.children[2], "y", (a.y + b.y) / 2 - 5);
    say(g.children[2], word);
    attribute(g, "class", "link" + (cut ? " cut" : delay || drop ? " slow" : "") + (dead ? " dead" : ""));
    attribute(g, "aria-label", "link between node " + pair[0] + " and node " + pair[1] + ": " + (word || "well") + ". Press to slow or to mend it");
  };

  Ring.prototype.newNode = function (id) {
    const self = this;
    const choose = function () { self.chosen(id); };
    return svg("g", { role: "button", tabindex: 0, "data-node": id, onclick: choose, onkeydown: onEnter(choose) }, [
      svg("path", { class: "timer-way", d: circle(SIZE + 12) }), svg("path", { class: "timer" }), svg("path", { class: "shape" }),
      svg("text", { class: "id", y: 2, "text-anchor": "middle", text: String(id) }), svg("text", { class: "term-text", y: 19, "text-anchor": "middle" }),
      svg("text", { class: "role-text", "text-anchor": "middle", y: SIZE + 30 }), svg("g", { class: "votes" }),
      svg("text", { class: "badge", "text-anchor": "middle", y: SIZE + 46 })]);
  };

  Ring.prototype.drawNode = function (g, state, id, selected) {
    const node = state.nodes[id], place = this.places[id], word = Barge.dom.roleWord(node), c = g.children;
    const scale = state.ids.length > 5 ? " scale(0.8)" : "";
    attribute(g, "transform", "translate(" + place.x.toFixed(1) + " " + place.y.toFixed(1) + ")" + scale);
    attribute(g, "class", "node role-" + word + (selected ? " selected" : ""));
    attribute(c[2], "d", SHAPES[word] || SHAPES.unknown);
    attribute(c[2], "class", "shape term-" + node.term % 8);
    say(c[4], word === "killed" || word === "crashed" ? "✕" : "term " + node.term);
    say(c[5], word === "leader" ? "★ leader" : word);
    const disk = (state.faults.disks || []).filter(function (fault) { return fault.node === id; })[0];
    say(c[7], disk ? disk.error ? "disk: " + disk.error : "slow disk: " + disk.delay_ms + " ms" : node.mayVote ? "" : "abstains");
    const votes = Object.keys(node.votes).length && node.role !== "follower" ? state.ids : [];
    keyed(c[6], votes, String, function (voter) {
      return svg("g", {}, [svg("circle", { r: 7 }), svg("text", { class: "vote-text", "text-anchor": "middle", y: 3.5 })]);
    }, function (dot, voter) {
      const how = node.votes[voter] || "open";
      attribute(dot, "class", "vote vote-" + how);
      attribute(dot, "transform", "translate(" + ((votes.indexOf(voter) - (votes.length - 1) / 2) * 18).toFixed(1) + " " + -(SIZE + 22) + ")");
      say(dot.children[1], how === "granted" ? "✓" : how === "refused" ? "✕" : how === "pre" ? "?" : "");
    });
    attribute(g, "aria-label", "node " + id + ", " + word + ", term " + node.term + ", committed up to " + node.commit + ". Press for more");
  };

  // The election timers: `shares` is how much of its longest time-out each node has heard no leader, null where that is not known.
  Ring.prototype.timers = function (shares) {
    const self = this;
    this.nodes.keyedChildren && this.nodes.keyedChildren.forEach(function (g, id) {
      const share = shares[id];
      attribute(g.children[0], "visibility", share === null || share === undefined ? "hidden" : "visible");
      attribute(g.children[1], "d", share === null || share === undefined ? "" : arc(SIZE + 12, share));
      attribute(g.children[1], "class", "timer" + (share > 0.5 ? " late" : ""));
    });
    return self;
  };

  Ring.prototype.newPulse = function (message) {
    const said = message.lost ? "✕ " + message.text : message.text;
    const text = said.length > 14 ? said.slice(0, 13) + "…" : said;
    const width = Math.max(16, 7 * text.length + 10);
    const small = message.kind === "heartbeat";
    return svg("g", { class: "pulse pulse-" + message.kind + (message.lost ? " lost" : "") }, small ? [svg("circle", { r: 4 })] : [
      svg("rect", { x: -width / 2, y: -9, width: width, height: 18, rx: message.answer ? 9 : 3 }),
      svg("text", { "text-anchor": "middle", y: 4, text: text })]);
  };

  Ring.prototype.at = function (message, share) {
    const a = this.places[message.from], b = this.places[message.to];
    if (!a || !b) { return null; }
    const dx = b.x - a.x, dy = b.y - a.y, length = Math.hypot(dx, dy) || 1;
    const from = SIZE / length, way = from + (1 - 2 * from) * share, side = 11;
    return "translate(" + (a.x + dx * way - dy / length * side).toFixed(1) + " " + (a.y + dy * way + dx / length * side).toFixed(1) + ")";
  };

  // Send a message on its way (where the link is cut it does not get far), for `duration` milliseconds; several alike at once are one pulse.
  Ring.prototype.send = function (message, now, duration) {
    if (this.calm.matches || this.flying.length >= PULSES || !this.places[message.from] || !this.places[message.to]) { return; }
    const alike = this.flying.some(function (p) {
      return p.message.from === message.from && p.message.to === message.to && p.message.kind === message.kind && now - p.began < 90 && duration < 1000;
    });
    if (alike) { return; }
    const element = this.newPulse(message);
    this.pulses.append(element);
    this.flying.push({ message: message, element: element, began: now, duration: duration });
  };

  // The message of the event that is looked at, half-way, while time stands still.
  Ring.prototype.hold = function (message) {
    this.still.replaceChildren();
    const where = message && this.at(message, 0.5);
    if (where) {
      const element = this.newPulse(message);
      element.setAttribute("transform", where);
      this.still.append(element);
    }
  };

  Ring.prototype.clear = function () {
    this.flying = [];
    this.pulses.replaceChildren();
  };

  // Move what flies; return whether anything does.
  Ring.prototype.frame = function (now) {
    const self = this;
    this.flying = this.flying.filter(function (pulse) {
      const share = (now - pulse.began) / pulse.duration;
      const where = share < 1 && self.at(pulse.message, Math.max(0, pulse.message.lost ? Math.min(share, 0.45) : share));
      if (where) { pulse.element.setAttribute("transform", where); } else { pulse.element.remove(); }
      return Boolean(where);
    });
    return this.flying.length > 0;
  };

  function onEnter(work) {
    return function (key) { if (key.key === "Enter" || key.key === " ") { key.preventDefault(); key.stopPropagation(); work(); } };
  }

  Barge.Ring = Ring;
  Barge.SHAPES = SHAPES;
})(window.Barge);
