"use strict";
// Puts the page together: events into the timeline, a moment of it into the views, keys and buttons into acts.
(function (Barge) {
  const byId = Barge.dom.byId, say = Barge.dom.say, h = Barge.dom.h;
  const FRAME_MS = 30, DRAW_MS = 100, DRAW_SHARE = 0.1, TIMER_MS = 80, PULSE_MS = 650, NODES_ASIDE = 3;

  const app = { timeline: null, player: null, live: false, known: {}, heard: {}, heartbeats: 0, electionMs: null, hasBeats: false, selected: null, lost: "", skipped: 0 };
  let ring, cards, logs, table, actions;
  let dirty = true, asked = false, drawnAt = 0, drawMs = 0, timedAt = 0, lastFrame = 0, loaded = false;
  let readHash = "";  // the address's hash as it was last read or written here

  function start() {
    const data = Barge.source.embedded();
    app.live = data === null;
    document.body.classList.toggle("offline", !app.live);
    ring = new Barge.Ring(byId("ring"), select, function (a, b) { if (app.live) { actions.toggleLink(a, b); } });
    cards = new Barge.Cards(byId("cards"), function (name, id) { actions.onNode(name, id); }, select);
    logs = new Barge.Logs(byId("log-columns"));
    table = new Barge.Table(byId("table"), function (place) { app.player.go(place); });
    actions = new Barge.Actions(function () { return app.timeline.end; });
    theme();
    legend();
    if (app.live) {
      begin({ cluster: "Barge" }, []);
      actions.bind();
      bindToken();
      app.tour = new Barge.Tour(app, actions);
      new Barge.source.Live({ begin: begin, page: page, nodes: nodes, lost: lost, back: back }).start();
    } else {
      if (data.nodes.length <= NODES_ASIDE) { document.querySelector("aside").append(byId("logs")); }  // there is room, without forms
      begin(data, data.nodes, data.events.length);
      app.hasBeats = data.events.some(function (event) { return event.heartbeat; });
      app.timeline.add(data.events);
      app.player.toEnd();
      app.skipped = data.dropped || 0;
      loaded = true;
      fromHash();
    }
    bindTime();
    window.Barge.app = app;
    requestAnimationFrame(frame);
  }

  function begin(status, views, most) {
    app.timeline = new Barge.Timeline(Barge.model.initial(views), most);
    app.electionMs = status.election_ms || null;
    if (app.player) { app.player.timeline = app.timeline; app.player.place = app.player.shown = 0; }
    else { app.player = new Barge.Player(app.timeline, app.live, changed); }
    byId("name").textContent = status.cluster || "Barge";
    document.title = (status.cluster || "Barge") + ": a Raft cluster";
    actions.nodes(app.timeline.base.ids);
    if (app.live) { nodes(views); }
  }

  // -- what comes from the daemon ----------------------------------------------------------------------------------------

  function page(got) {
    const before = app.timeline.end, now = performance.now();
    app.timeline.add(got.events);
    app.skipped += (got.skipped || 0) + (loaded ? got.dropped || 0 : 0);
    app.timeline.end.ids.forEach(function (id) {
      const node = app.timeline.end.nodes[id], old = before.nodes[id];
      if (loaded && (!old || node.heard !== old.heard)) { app.heard[id] = now; }
    });
    (got.beats || []).forEach(function (beat) {
      const at = now - beat.age_ms;
      if (!(app.heard[beat.node] > at)) {
        app.heard[beat.node] = at;
        if (app.player.mode === "live") { ring.send({ from: beat.peer, to: beat.node, kind: "heartbeat", text: "♥", answer: false }, now, PULSE_MS / 2); }
      }
    });
    app.heartbeats = got.heartbeats || app.heartbeats;
    if (!loaded) {
      loaded = true;
      app.player.shown = app.timeline.last();
      fromHash();
    }
    dirty = true;
  }

  function nodes(views) {
    app.known = {};
    views.forEach(function (view) { app.known[view.id] = view; });
    dirty = true;
  }

  function lost(why) {
    app.lost = why;
    if (why === Barge.source.NEEDS_TOKEN) { byId("token-form").hidden = false; }
    dirty = true;
  }

  function back() { app.lost = ""; dirty = true; }

  // With a token a plain link would be refused: the file is fetched, and saved from here.
  async function save() {
    const answer = await fetch("/log.html", { headers: Barge.source.headers({ Accept: "text/html" }) });
    if (!answer.ok) { byId("outcome").textContent = "the file could not be fetched: " + answer.status; return; }
    const link = h("a", { href: URL.createObjectURL(await answer.blob()), download: "log.html" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function bindToken() {
    byId("token-form").addEventListener("submit", function (submit) {
      submit.preventDefault();
      Barge.source.setToken(byId("token").value);
      byId("token").value = "";
      byId("token-form").hidden = true;
      byId("table-only").hidden = true;
    });
    byId("save").addEventListener("click", save);
  }

  // -- drawing -------------------------------------------------------------------------------------------------------------

  function changed() { dirty = asked = true; }

  // Thirty pictures a second at most, and the views at most ten times, or so seldom that drawing takes a tenth of the time: but a person
  // who asks for another moment sees it at once.
  function frame(now) {
    requestAnimationFrame(frame);
    if (now - lastFrame < FRAME_MS) { return; }
    const passed = app.player.tick(Math.min(now - lastFrame, 1000));
    lastFrame = now;
    if (passed.length) {
      dirty = true;
      const state = app.timeline.at(app.player.place);
      const playing = app.player.mode === "playing", beats = byId("beats").checked || app.player.speed < 1;
      passed.forEach(function (event, i) {
        const message = Barge.model.messageOf(event);
        if (!message || (event.heartbeat && !beats)) { return; }
        message.lost = Barge.model.linkOf(state, message.from, message.to).cut;
        const flight = playing ? app.player.flight(app.player.place - passed.length + i) * 1000 / app.player.speed : 0;
        ring.send(message, now + (message.answer && !playing ? PULSE_MS * 0.6 : 0), Math.min(Math.max(PULSE_MS, flight), 6000));
      });
    }
    if (dirty && now - drawnAt >= (asked ? DRAW_MS : Math.max(DRAW_MS, drawMs / DRAW_SHARE))) {
      dirty = asked = false;
      drawnAt = now;
      draw();
      drawMs = Math.min(performance.now() - now, DRAW_MS);
    }
    if (now - timedAt >= TIMER_MS) { timedAt = now; ring.timers(shares(now)); }
    ring.frame(now);
  }

  function draw() {
    const player = app.player, timeline = app.timeline, event = player.event();
    const state = player.mode === "live" ? Barge.model.unreachable(timeline.end, app.known) : timeline.at(player.place);
    const paused = player.mode === "paused";
    ring.draw(state, app.selected);
    if (paused) { ring.clear(); }
    const message = paused && event ? Barge.model.messageOf(event) : null;
    if (message) { message.lost = Barge.model.linkOf(state, message.from, message.to).cut; }
    ring.hold(message);
    cards.draw(state, app.live && player.mode === "live", app.selected, app.known);
    logs.draw(state);
    table.draw(timeline, player.place, state, byId("filter").value, byId("beats").checked);
    header(state, player, timeline);
    byId("now").setAttribute("aria-live", paused ? "polite" : "off");
    say(byId("now"), event ? (event.node === null ? "" : "node " + event.node + " ") + Barge.words.sentence(event) : "Nothing has happened yet.");
    time(player, timeline, event);
  }

  function header(state, player, timeline) {
    const leader = Barge.model.leaderOf(state), trouble = Barge.model.trouble(state), banner = byId("banner");
    const lost = app.lost === Barge.source.NEEDS_TOKEN ? "The daemon " + app.lost + "."
      : "Connection lost: " + app.lost + ". Trying again" + (loaded ? "; this is the last known state." : ".");
    const said = app.lost ? lost : loaded ? trouble : "";
    banner.hidden = !said;
    say(banner, said);
    say(byId("summary"), leader && !trouble ? "node " + leader.id + " leads · term " + leader.term + " · committed " + leader.commit : loaded ? "no leader" : "");
    document.body.classList.toggle("past", app.live && player.mode !== "live");
    say(byId("counts"), Barge.words.number(timeline.events.length) + " events kept" + (app.heartbeats ? ", " + Barge.words.number(app.heartbeats) + " heartbeats" : "")
      + (app.skipped ? ", " + Barge.words.number(app.skipped) + " left out under load" : "") + ", newest first, times " + (state.time < 86400 ? "since the beginning" : "in UTC"));
  }

  function time(player, timeline, event) {
    const slider = byId("slider");
    slider.min = timeline.first;
    slider.max = timeline.last();
    slider.value = player.place;
    slider.setAttribute("aria-valuetext", event ? Barge.dom.clock(event.time) + ", event " + player.place : "before the first event");
    say(byId("pause").firstElementChild, player.mode === "paused" ? "▶" : "❚❚");
    say(byId("pause").lastElementChild, player.mode === "paused" ? "play" : "pause");
    Barge.dom.attribute(byId("pause"), "aria-label", player.mode === "paused" ? "play" : "pause");
    say(byId("live"), app.live ? "live" : "end");
    Barge.dom.attribute(byId("live"), "aria-pressed", app.live ? player.mode === "live" : null);
    byId("speed").value = String(player.speed);
    const moment = byId("moment");
    moment.href = event ? "#id=" + encodeURIComponent(event.id) : "#";
    say(moment, event ? Barge.dom.clock(event.time) + " · " + (player.place - timeline.first) + " of " + timeline.events.length : "no event");
    showInAddress(player.mode === "paused" && event ? "#id=" + encodeURIComponent(event.id) : "");
  }

  // The address may have changed already, and its hashchange event be still to come: a hash that was not read yet is left as it is.
  function showInAddress(hash) {
    if (!loaded || location.hash !== readHash || location.hash === hash || (!hash && location.hash.indexOf("#id=") !== 0)) { return; }
    try { history.replaceState(null, "", hash || location.pathname + location.search); } catch (problem) { /* a file in a sandbox */ }
    readHash = location.hash;
  }

  function shares(now) {
    const found = {}, player = app.player;
    if (!app.electionMs) { return found; }
    const live = player.mode === "live", state = live ? app.timeline.end : app.timeline.at(player.place);
    const event = player.event(), moment = player.mode === "playing" ? player.time : event ? event.time : 0;
    state.ids.forEach(function (id) {
      const node = state.nodes[id];
      if (node.state !== "running" || node.role === "leader") { return; }
      if (live) { if (app.heard[id] !== undefined) { found[id] = (now - app.heard[id]) / app.electionMs[1]; } }
      else if (app.hasBeats && node.heard) { found[id] = (moment - node.heard) * 1000 / app.electionMs[1]; }
    });
    return found;
  }

  // -- acts --------------------------------------------------------------------------------------------------------------------

  function select(id) {
    app.selected = app.selected === id ? null : id;
    changed();
  }

  function fromHash() {
    readHash = location.hash;
    if (location.hash.indexOf("#id=") !== 0) { return; }
    let id = location.hash.slice(4);
    try { id = decodeURIComponent(id); } catch (problem) { /* not one of ours: it will not be found */ }
    const place = app.timeline.after(id);
    if (place >= 0) { app.player.go(place); } else { byId("outcome").textContent = "event " + id + " is not kept any more"; }
  }

  function bindTime() {
    const player = app.player;
    const stepped = function (event) { return byId("beats").checked || !event.heartbeat; };
    const back = function () { player.step(-1, stepped); }, forward = function () { player.step(1, stepped); };
    const jump = function (name, step) { player.step(step, Barge.JUMPS[name]); };
    byId("first").addEventListener("click", function () { player.go(app.timeline.first); });
    byId("back").addEventListener("click", back);
    byId("forward").addEventListener("click", forward);
    byId("pause").addEventListener("click", function () { player.toggle(); });
    byId("live").addEventListener("click", function () { player.toEnd(); });
    byId("speed").addEventListener("change", function () { player.setSpeed(Number(byId("speed").value)); });
    byId("slider").addEventListener("input", function () { player.go(Number(byId("slider").value)); });
    byId("filter").addEventListener("change", changed);
    byId("beats").addEventListener("change", changed);
    document.querySelectorAll("[data-jump]").forEach(function (button) {
      button.addEventListener("click", function (click) { jump(button.dataset.jump, click.shiftKey ? -1 : 1); });
    });
    window.addEventListener("hashchange", fromHash);
    document.addEventListener("keydown", function (key) {
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(key.target.tagName) || key.ctrlKey || key.metaKey || key.altKey) { return; }
      const acts = {
        ArrowLeft: back, ArrowRight: forward, Home: function () { player.go(app.timeline.first); }, End: function () { player.toEnd(); },
        " ": key.target.tagName === "BUTTON" || key.target.tagName === "SUMMARY" ? null : function () { player.toggle(); },
        e: function () { jump("election", 1); }, E: function () { jump("election", -1); }, c: function () { jump("commit", 1); },
        C: function () { jump("commit", -1); }, f: function () { jump("fault", 1); }, F: function () { jump("fault", -1); }
      };
      if (acts[key.key]) { key.preventDefault(); acts[key.key](); }
    });
  }

  function theme() {
    const root = document.documentElement, button = byId("theme");
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const show = function () {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
      button.lastElementChild.textContent = isDark ? "light" : "dark";
    };
    try { if (localStorage.bargeTheme) { root.dataset.theme = localStorage.bargeTheme; } } catch (problem) { /* no storage: as the system says */ }
    button.addEventListener("click", function () {
      root.dataset.theme = button.lastElementChild.textContent;
      try { localStorage.bargeTheme = root.dataset.theme; } catch (problem) { /* for this visit only */ }
      show();
    });
    dark.addEventListener("change", show);
    show();
  }

  function legend() {
    const shape = function (word) {
      return Barge.dom.svg("svg", { viewBox: "-52 -52 104 104", class: "legend-shape node role-" + word, "aria-hidden": "true" }, [Barge.dom.svg("path", { class: "shape term-1", d: Barge.SHAPES[word] })]);
    };
    const items = [["leader", "leads"], ["follower", "follows"], ["pre-candidate", "asks whether it could be elected"], ["candidate", "asks for votes"], ["killed", "killed or crashed"], ["unreachable", "its daemon does not answer"]];
    byId("legend").lastElementChild.append.apply(byId("legend").lastElementChild, items.map(function (item) {
      return h("li", {}, [shape(item[0]), h("span", { text: item[1] })]);
    }).concat([h("li", { text: "Colour and number: the term. The arc around a node: how much of its longest election time-out has passed without hearing a leader. "
      + "Dots: votes ✓, refusals ✕, pre-votes ?. In the logs: a number is the entry's term, dashed is not known to be committed, the thick line is the node's commit index." })]));
  }

  if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", start); } else { start(); }
})(window.Barge);
