"use strict";
// Where events come from: a running daemon (a stream, or once a second where the daemon has no stream to spare), or the file itself.
window.Barge = window.Barge || {};
(function (Barge) {
  const SILENT_MS = 6000;       // the stream sends something every two seconds
  const POLL_MS = 1000, AGAIN_MS = 1000, STREAM_AGAIN_MS = 15000;
  const NEEDS_TOKEN = "asks for its API token";
  const FIRST_EVENTS = 1000, MOST_EVENTS = 5000;

  // What log.html and a replay carry: {cluster, nodes, election_ms, dropped, events}; null on a live page.
  function embedded() {
    const element = document.getElementById("data");
    return element ? JSON.parse(element.textContent) : null;
  }

  // An API that is not on loopback wants a token. It is kept for this tab only, and sent as a header, never as a cookie.
  let token = "";
  try { token = sessionStorage.bargeToken || ""; } catch (problem) { /* no storage: asked for again after a reload */ }

  // What no header can carry is not the token: without one the daemon's refusal asks for it again.
  function setToken(text) {
    token = /^[\x20-\x7e\xa0-\xff]*$/.test(text) ? text : "";
    try { sessionStorage.bargeToken = token; } catch (problem) { /* for this visit only */ }
  }

  function headers(more) {
    return Object.assign({ Accept: "application/json" }, token ? { Authorization: "Bearer " + token } : {}, more);
  }

  async function ask(path) {
    const answer = await fetch(path, { cache: "no-store", headers: headers() });
    if (answer.status === 401) { throw new Error(NEEDS_TOKEN); }
    if (!answer.ok) { throw new Error("the daemon answers with " + answer.status); }
    return answer.json();
  }

  // Read the stream until it ends; EventSource could not send a token, nor tell why it was refused.
  async function follow(cursor, signal, take) {
    const answer = await fetch("/events?live=1", { cache: "no-store", signal: signal, headers: headers({ Accept: "text/event-stream", "Last-Event-ID": cursor }) });
    if (!answer.ok) { return; }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const chunk = await reader.read();
      if (chunk.done) { return; }
      const frames = (rest + chunk.value).split("\n\n");
      rest = frames.pop();
      frames.forEach(function (frame) {
        const data = /^data: (.*)$/m.exec(frame);
        if (data) { take(JSON.parse(data[1])); }
      });
    }
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
    const self = this, stream = this.stream = new AbortController();
    let heard = false;
    this.heardAt = performance.now();
    follow(this.cursor, stream.signal, function (page) { if (self.stream === stream) { heard = true; self.take(page); } })
      .catch(function () { /* cut off, as at its end */ })
      .then(function () {
        if (self.stream !== stream) { return; }
        self.stream = null;  // cut off: again in a second; refused: ask once a second until it is time to try again
        self.refusedAt = heard ? -STREAM_AGAIN_MS : performance.now();
      });
  };

  Live.prototype.close = function () {
    if (this.stream) {
      const stream = this.stream;
      this.stream = null;
      stream.abort();
    }
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

  Barge.source = { Live: Live, embedded: embedded, headers: headers, setToken: setToken, pause: pause, NEEDS_TOKEN: NEEDS_TOKEN };
})(window.Barge);
