"use strict";
// Plays a story on the real cluster, and explains each step as it happens.
window.Barge = window.Barge || {};
(function (Barge) {
  const h = Barge.dom.h, byId = Barge.dom.byId;
  const READING_MS = 1600, LONGEST_MS = 20000;

  function Tour(app, actions) {
    this.app = app;
    this.actions = actions;
    this.number = 0;
    const self = this;
    byId("stories").replaceChildren.apply(byId("stories"), Barge.stories.map(function (story) {
      return h("button", { type: "button", "data-story": story.id, text: story.name, onclick: function () { self.play(story); } });
    }));
    this.stopButton = h("button", { type: "button", id: "stop-tour", text: "Stop", onclick: function () { self.stop(); } });
  }

  Tour.prototype.stop = function () {
    this.number += 1;
    byId("story").replaceChildren();
    byId("stories").querySelectorAll("[data-story]").forEach(function (button) { button.setAttribute("aria-pressed", "false"); });
  };

  Tour.prototype.context = function () {
    const app = this.app, actions = this.actions, begins = { place: app.timeline.last() };
    const line = this.line.bind(this);
    return {
      keep: {},
      from: function () { begins.place = app.timeline.last(); },
      state: function () { return app.timeline.end; },
      leader: function () { return Barge.model.trouble(app.timeline.end) ? null : Barge.model.leaderOf(app.timeline.end); },
      head: function () {
        const leader = this.leader();
        if (!leader) { throw new Error("the leader was lost meanwhile; begin the story again"); }
        return leader;
      },
      beats: function () { return app.heartbeats; },
      seen: function (passes) { return app.timeline.find(Math.max(begins.place, app.timeline.first), 1, passes) >= 0; },
      kill: function (id) { return actions.onNode("kill", id); },
      revive: function (id) { return actions.onNode("revive", id); },
      cut: function (groups) { return actions.partition(groups); },
      heal: function () { return actions.heal(); },
      told: function (answer) {
        line(answer.status === 0 || answer.status >= 300 ? Barge.rest.failure(answer) : "answered: " + (answer.body.value !== undefined ? JSON.stringify(answer.body.value) + ", " : "")
          + "index " + answer.body.index + " (" + answer.ms.toFixed(0) + " ms)");
      }
    };
  };

  Tour.prototype.line = function (text) {
    const last = byId("steps").querySelector("li.doing") || byId("steps").lastElementChild;
    if (last) { const told = last.querySelector(".told") || last.appendChild(h("span", { class: "told" })); told.textContent = text; }
  };

  Tour.prototype.play = async function (story) {
    this.stop();
    const mine = this.number, c = this.context();
    byId("stories").querySelector('[data-story="' + story.id + '"]').setAttribute("aria-pressed", "true");
    byId("steps").replaceChildren();
    byId("stage").scrollIntoView({ block: "nearest" });  // on a phone it is two screens away from the buttons
    if (c.state().ids.length < 3) {
      byId("steps").append(h("li", { class: "failed", text: "The stories need a cluster of three nodes or more." }));
      return this.stop();
    }
    this.app.player.toEnd();
    for (const step of story.steps) {
      const item = h("li", { class: "doing" }, [h("span", { class: "said", text: step.say }), h("cite", { text: step.paper })]);
      byId("steps").append(item);
      byId("story").replaceChildren(h("b", { text: story.name + ", " + (story.steps.indexOf(step) + 1) + " of " + story.steps.length + ": " }), step.say + " ", h("cite", { text: step.paper }), " ", this.stopButton);
      const began = performance.now();
      try {
        if (step.act) { await step.act(c); }
        while (this.number === mine && !step.done(c)) {
          if (performance.now() - began > LONGEST_MS) { throw new Error("this was not seen in " + LONGEST_MS / 1000 + " s; heal everything, revive the nodes, and try again"); }
          await Barge.source.pause(50);
        }
        if (this.number !== mine) { return; }
        item.className = "done";
        if (step === story.steps[0]) { c.from(); } else { await Barge.source.pause(Math.max(0, READING_MS - (performance.now() - began))); }
      } catch (problem) {
        item.className = "failed";
        item.append(h("span", { class: "told", text: String(problem.message || problem) }));
        this.stop();
        return;
      }
      if (this.number !== mine) { return; }
    }
    byId("steps").append(h("li", { class: "end", text: "End of the story. Go through it again with the slider, or at 1/100 of its speed." }));
    this.stop();
  };

  Barge.Tour = Tour;
})(window.Barge);
