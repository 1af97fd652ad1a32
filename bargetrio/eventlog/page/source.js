"use strict";
// Where events come from: a running daemon (a stream, or once a second where the daemon has no stream to spare), or the file itself.
window.Barge = window.Barge || {};
(function (Barge) {
  const SILENT_MS = 6000;       // the stream sends something every two seconds
  const POLL_MS = 1000, AGAIN_MS = 1000, STREAM_AGAIN_MS = 15000;
  const FIRST_EVENTS = 1000, MOST_EVENTS = 5000;

  // What log.html and a replay carry: {cluster, nodes, election_ms, dropped, events}; null on a live page.
  function embedded() {
    const element = document.getElementById("data");
    return element ? JSON.parse(element.textContent) : null;
  }

  async function ask(path) {
    const answer = await fetch(path, { cache: "no-store", headers: { Accept: "application/json" } });
    if (!answer.ok) { throw new Error("the daemon answers with " + answer.status); }
    return answer.json();
  }

  // `on` has begin(status, views), page(page), nodes(views), lost(why), back().
  function Live(on) {
    this.on = on;
    this.cursor = "";
    this.stream = null;
    this.lost = false;
    this.heardAt = 0;
    this.refusedAt = -STREAM_AGAIN_MS;
  }

  Live.prototype.start = async function () {
    for (;;) {
      try {
        const wanted = location.hash.indexOf("#id=") === 0 ? MOST_EVENTS : FIRST_EVENTS;
        const answers = await Promise.all([ask("/status"), ask("/nodes"), ask("/events?live=1&limit=" + wanted)]);
        this.on.begin(answers[0], answers[1].nodes);
        this.take(answers[2]);
        break;
      } catch (problem) {
        this.lose(String(problem.message || problem));
        await pause(AGAIN_MS);
      }
    }
    document.addEventListener("visibilitychange", this.look.bind(this));  // a hidden page needs no stream; a browser has six a host
    this.look();
    setInterval(this.watch.bind(this), POLL_MS);
  };

  Live.prototype.take = function (page) {
    this.cursor = page.next || this.cursor;
    this.heardAt = performance.now();
    if (this.lost) { this.lost = false; this.on.back(); }
    this.on.page(page);
  };

  Live.prototype.lose = function (why) {
    this.lost = true;
    this.on.lost(why);
  };

  Live.prototype.look = function () {
    if (document.hidden) { this.close(); } else if (!this.stream) { this.open(); }
  };

  Live.prototype.open = function () {
    const self = this, stream = this.stream = new EventSource("/events?live=1&after=" + encodeURIComponent(this.cursor));
    let heard = false;
    this.heardAt = performance.now();
    stream.addEventListener("page", function (message) { heard = true; self.take(JSON.parse(message.data)); });
    stream.addEventListener("error", function () {
      if (self.stream !== stream) { return; }
      self.close();  // cut off: again in a second; refused: ask once a second until it is time to try again
      self.refusedAt = heard ? -STREAM_AGAIN_MS : performance.now();
    });
  };

  Live.prototype.close = function () {
    if (this.stream) { this.stream.close(); this.stream = null; }
  };

  Live.prototype.watch = async function () {
    if (document.hidden || this.asking) { return; }
    this.asking = true;
    try {
      const now = performance.now();
      if (this.stream && now - this.heardAt > SILENT_MS) { this.close(); this.refusedAt = -STREAM_AGAIN_MS; }
      if (!this.stream) {
        const wasLost = this.lost;
        this.take(await ask("/events?live=1&limit=1000&after=" + encodeURIComponent(this.cursor)));
        if (wasLost || now - this.refusedAt > STREAM_AGAIN_MS) { this.open(); }
      }
      this.on.nodes((await ask("/nodes")).nodes);
    } catch (problem) {
      this.close();
      this.lose(problem instanceof TypeError ? "the daemon does not answer" : String(problem.message));
    } finally { this.asking = false; }
  };

  function pause(ms) { return new Promise(function (done) { setTimeout(done, ms); }); }

  Barge.source = { Live: Live, embedded: embedded, ask: ask, pause: pause };
})(window.Barge);
