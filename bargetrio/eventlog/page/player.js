"use strict";
// Which moment is shown. `place` is how many events have happened in it; live follows the end, playing moves by a clock of its own.
window.Barge = window.Barge || {};
(function (Barge) {
  const LONGEST_QUIET_MS = 1200;  // a longer wait for the next event is shortened, at any speed

  function Player(timeline, isLive, changed) {
    this.timeline = timeline;
    this.isLive = isLive;
    this.mode = isLive ? "live" : "paused";
    this.place = timeline.last();
    this.speed = 1;
    this.time = 0;
    this.shown = this.place;
    this.changed = changed;
  }

  Player.prototype.clamp = function () {
    this.place = Math.max(this.timeline.first, Math.min(this.place, this.timeline.last()));
    this.shown = Math.max(this.shown, this.timeline.first);
  };

  Player.prototype.event = function () { return this.timeline.event(this.place - 1); };

  Player.prototype.go = function (place) {
    this.mode = "paused";
    this.place = place;
    this.clamp();
    this.shown = this.place;
    this.changed();
  };

  Player.prototype.toEnd = function () {
    this.go(this.timeline.last());
    if (this.isLive) { this.mode = "live"; this.speed = 1; this.changed(); }
  };

  Player.prototype.play = function () {
    if (!this.isLive && this.place >= this.timeline.last()) { this.place = this.shown = this.timeline.first; }
    const event = this.event() || this.timeline.event(this.place);
    this.time = event ? event.time : 0;
    this.mode = "playing";
    this.changed();
  };

  Player.prototype.toggle = function () {
    if (this.mode === "paused") {
      if (this.isLive && this.place >= this.timeline.last()) { this.toEnd(); } else { this.play(); }
    } else { this.go(this.place); }
  };

  Player.prototype.setSpeed = function (speed) {
    this.speed = speed;
    if (this.mode === "live" && speed !== 1) { this.play(); }
    this.changed();
  };

  Player.prototype.step = function (step, passes) {
    const place = this.timeline.find(this.place, step, passes);
    if (place >= 0) { this.go(place); } else if (step < 0) { this.go(this.timeline.first); }
    return place >= 0;
  };

  // Move by `ms` of real time; return the events that happened meanwhile, for the ring to show.
  Player.prototype.tick = function (ms) {
    const timeline = this.timeline;
    if (this.mode === "live") { this.place = timeline.last(); }
    else if (this.mode === "playing") {
      this.time += ms / 1000 * this.speed;
      let next = timeline.event(this.place);
      if (!next && this.isLive && this.speed >= 1) { this.mode = "live"; this.changed(); }
      if (!next && !this.isLive) { this.go(this.place); }
      if (next && (next.time - this.time) * 1000 / this.speed > LONGEST_QUIET_MS) { this.time = next.time - LONGEST_QUIET_MS / 1000 * this.speed; }
      while (next && next.time <= this.time) { this.place += 1; next = timeline.event(this.place); }
    }
    this.clamp();
    const passed = [];
    for (let i = Math.max(this.shown, this.place - 200); i < this.place; i += 1) { passed.push(timeline.event(i)); }
    this.shown = this.place;
    return passed;
  };

  // How long the message of the event at `place` was on its way, in seconds, as far as its receiver tells.
  Player.prototype.flight = function (place) {
    const timeline = this.timeline, sent = timeline.event(place);
    for (let i = place + 1; i < Math.min(place + 300, timeline.last()); i += 1) {
      const event = timeline.event(i);
      if (event.node === sent.peer && event.peer === sent.node && ANSWERS[sent.kind] && ANSWERS[sent.kind].test(event.kind)) { return event.time - sent.time; }
    }
    return 0;
  };

  const ANSWERS = { append_sent: /^append_(acc|rej)/, vote_requested: /^vote_(gr|ref)/, pre_vote_requested: /^pre_vote_(gr|ref)/, snapshot_sent: /^snapshot_inst/ };

  Barge.Player = Player;
})(window.Barge);
