"use strict";
// The events that the page has, and the state at any of them: a snapshot of the state every hundred events, and replay from there.
// Places are counted from the first event that ever came, so that a place stays the same when old events are dropped.
window.Barge = window.Barge || {};
(function (Barge) {
  const MOST = 10000;     // events that a live page keeps
  const EVERY = 100;      // events between two snapshots

  const ELECTION = new Set(["role_changed", "vote_requested", "vote_granted", "vote_refused", "pre_vote_requested"]);
  const FAULT = new Set(["node_killed", "node_revived", "node_crashed", "faults_changed", "disk_failed"]);
  const JUMPS = {
    election: function (event) { return event.kind === "role_changed" && (event.detail.new === "leader" || event.detail.new === "candidate"); },
    commit: function (event) { return event.kind === "commit_advanced"; },
    fault: function (event) { return FAULT.has(event.kind); }
  };

  function Timeline(base, most) {
    this.base = base;
    this.first = 0;          // the place of the first kept event
    this.events = [];
    this.end = base;         // the state after the last event
    this.snapshots = [];     // of places first, first + EVERY, ...
    this.places = new Map(); // id -> place
    this.most = most || MOST;
    this.dropped = 0;
  }

  Timeline.prototype.last = function () { return this.first + this.events.length; };

  Timeline.prototype.add = function (events) {
    for (const event of events) {
      if (this.places.has(event.id)) { continue; }
      if (this.events.length % EVERY === 0) { this.snapshots.push(this.end); }
      this.places.set(event.id, this.last());
      this.events.push(event);
      this.end = Barge.model.apply(this.end, event);
    }
    if (this.events.length > this.most) { this.drop(Math.ceil((this.events.length - this.most * 0.9) / EVERY) * EVERY); }
  };

  Timeline.prototype.drop = function (count) {
    this.base = this.at(this.first + count);
    this.events.slice(0, count).forEach(function (event) { this.places.delete(event.id); }, this);
    this.events.splice(0, count);
    this.snapshots.splice(0, count / EVERY);
    this.first += count;
    this.dropped += count;
  };

  // The state when the events before `place` have happened.
  Timeline.prototype.at = function (place) {
    const wanted = Math.max(0, Math.min(place - this.first, this.events.length));
    if (wanted === this.events.length) { return this.end; }
    const number = Math.floor(wanted / EVERY);
    let state = this.snapshots[number] || this.base;
    for (let i = number * EVERY; i < wanted; i += 1) { state = Barge.model.apply(state, this.events[i]); }
    return state;
  };

  Timeline.prototype.event = function (place) { return this.events[place - this.first]; };

  // The place just after the event with this id, or -1.
  Timeline.prototype.after = function (id) {
    const place = this.places.get(id);
    return place === undefined ? -1 : place + 1;
  };

  // The place just after the next (or, with step -1, the previous) event that passes, or -1.
  Timeline.prototype.find = function (place, step, passes) {
    for (let i = step > 0 ? place : place - 2; i >= this.first && i < this.last(); i += step) {
      if (passes(this.event(i))) { return i + 1; }
    }
    return -1;
  };

  Barge.Timeline = Timeline;
  Barge.JUMPS = JUMPS;
  Barge.ELECTION = ELECTION;
  Barge.FAULT = FAULT;
})(window.Barge);
