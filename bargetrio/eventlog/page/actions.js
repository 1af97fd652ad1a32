"use strict";
// What a person can do to the cluster, by REST. Every act tells its outcome in words, with the milliseconds that it took.
window.Barge = window.Barge || {};
(function (Barge) {
  const byId = Barge.dom.byId, h = Barge.dom.h;
  const SLOW_MS = 200;

  async function request(method, path, body, type) {
    const began = performance.now();
    const options = { method: method, cache: "no-store", headers: Barge.source.headers() };
    if (body !== undefined) { options.body = body; options.headers["Content-Type"] = type || "application/json"; }
    let answer, text;
    try {
      answer = await fetch(path, options);
      text = await answer.text();
    } catch (problem) {
      return { status: 0, ms: performance.now() - began, body: { detail: "the daemon does not answer", applied: method === "GET" ? false : null } };
    }
    let told = {};
    try { told = text ? JSON.parse(text) : {}; } catch (problem) { told = { detail: text.slice(0, 200) }; }
    return { status: answer.status, ms: performance.now() - began, body: told, index: answer.headers.get("Barge-Index") };
  }

  function took(answer) { return " (" + answer.ms.toFixed(answer.ms < 10 ? 1 : 0) + " ms)"; }

  // Why it went wrong, and what that means for the write.
  function failure(answer) {
    const body = answer.body, certain = body.applied === false ? " Nothing was done." : body.applied === null ? " It is unknown whether it was applied." : "";
    const detail = (body.detail || "error " + answer.status).replace(/\.$/, "");
    return (body.title ? body.title + ": " : "") + detail + "." + certain + took(answer);
  }

  // A browser takes the steps . and .. out of every address, however they are written: the request would be about another thing.
  async function onKey(method, key, value) {
    if (key === "." || key === "..") {
      return { status: 0, ms: 0, body: { detail: "a browser cannot ask for the key " + key + ", the command line can", applied: false } };
    }
    return request(method, "/keys/" + encodeURIComponent(key), value, "text/plain");
  }

  async function put(key, value) { return onKey("PUT", key, value); }

  // -- nodes and faults ----------------------------------------------------------------------------------------------------

  function Actions(stateNow) {
    this.stateNow = stateNow;
  }

  Actions.prototype.tell = function (text) { byId("outcome").textContent = text; };

  Actions.prototype.onNode = async function (name, id) {
    if (name === "kill" || name === "revive") {
      const answer = await request("POST", "/nodes/" + id + "/" + name);
      const done = name === "kill" ? "is killed" : "is revived";
      this.tell(answer.status === 200 ? "node " + id + " " + (answer.body.changed ? done : "was so already") + took(answer) : failure(answer));
      return answer;
    }
    const self = this, state = this.stateNow();
    return this.change(function (faults) {
      if (name === "cut") { return self.cutOff(faults, state, id); }
      if (name === "disk") {
        const others = faults.disks.filter(function (disk) { return disk.node !== id; });
        const slow = others.length < faults.disks.length;
        faults.disks = slow ? others : others.concat([{ node: id, delay_ms: SLOW_MS }]);
        return "the disk of node " + id + (slow ? " is normal again" : " takes " + SLOW_MS + " ms longer for each write");
      }
      const pairs = state.ids.filter(function (other) { return other !== id; });
      const slow = faults.links.some(function (link) { return link.delay_ms && (link.from === id || link.to === id); });
      pairs.forEach(function (other) { setLink(faults, id, other, { delay_ms: slow ? 0 : SLOW_MS }); setLink(faults, other, id, { delay_ms: slow ? 0 : SLOW_MS }); });
      return "the links of node " + id + (slow ? " are normal again" : " take " + SLOW_MS + " ms each way");
    });
  };

  Actions.prototype.cutOff = function (faults, state, id) {
    const cut = Barge.model.isCutOff(state, id);
    state.ids.forEach(function (other) {
      if (other !== id) { setLink(faults, id, other, { cut: false }); setLink(faults, other, id, { cut: false }); }
    });
    if (cut) {
      const rest = faults.groups.map(function (group) { return group.filter(function (other) { return other !== id; }); });
      const home = rest.reduce(function (best, group) { return group.length > best.length ? group : best; }, []);
      home.push(id);
      faults.groups = rest.filter(function (group) { return group.length; });
      if (faults.groups.length < 2 && faults.groups.every(function (group) { return group.length === state.ids.length; })) { faults.groups = []; }
      return "node " + id + " is connected again";
    }
    const groups = faults.groups.length ? faults.groups : [state.ids];
    faults.groups = groups.map(function (group) { return group.filter(function (other) { return other !== id; }); })
      .filter(function (group) { return group.length; }).concat([[id]]);
    return "node " + id + " is cut off from the others";
  };

  // Read the faults in force, change them, and put them in force again.
  Actions.prototype.change = async function (work) {
    const found = await request("GET", "/faults");
    if (found.status !== 200) { this.tell(failure(found)); return found; }
    const faults = { groups: found.body.groups || [], links: found.body.links || [], disks: found.body.disks || [] };
    const done = work(faults);
    faults.links = faults.links.filter(function (link) { return link.cut || link.drop || link.delay_ms; });
    const answer = await request("PUT", "/faults", JSON.stringify(faults));
    this.tell(answer.status === 200 ? done + took(answer) : failure(answer));
    return answer;
  };

  Actions.prototype.partition = function (groups) {
    return this.change(function (faults) {
      faults.groups = groups;
      return "partition: " + groups.map(function (group) { return group.join(", "); }).join(" | ");
    });
  };

  Actions.prototype.heal = async function () {
    const answer = await request("DELETE", "/faults");
    this.tell(answer.status === 200 ? "everything is healed" + took(answer) : failure(answer));
    return answer;
  };

  // One way of a link, and nothing but this fault: slow by 0 ms is well again, as it is with `bargetrio slow-link`.
  Actions.prototype.link = function (from, to, fault) {
    return this.change(function (faults) {
      setLink(faults, from, to, Object.assign({ cut: false, drop: 0, delay_ms: 0 }, fault));
      return "link " + from + " → " + to + (fault.cut ? ": cut" : fault.delay_ms ? ": " + fault.delay_ms + " ms late" : " is normal again");
    });
  };

  // A click on a line of the ring: slow both ways, or mended.
  Actions.prototype.toggleLink = function (a, b) {
    return this.change(function (faults) {
      const bad = faults.links.some(function (link) { return (link.from === a && link.to === b) || (link.from === b && link.to === a); });
      const fields = bad ? { cut: false, drop: 0, delay_ms: 0 } : { delay_ms: SLOW_MS };
      setLink(faults, a, b, fields);
      setLink(faults, b, a, fields);
      return "the link between " + a + " and " + b + (bad ? " is normal again" : " takes " + SLOW_MS + " ms each way");
    });
  };

  function setLink(faults, from, to, fields) {
    const link = faults.links.filter(function (one) { return one.from === from && one.to === to; })[0];
    if (link) { Object.assign(link, fields); } else { faults.links.push(Object.assign({ from: from, to: to }, fields)); }
  }

  // -- the forms -------------------------------------------------------------------------------------------------------------

  Actions.prototype.bind = function () {
    const self = this, key = byId("key"), value = byId("value"), output = byId("answer");
    const told = function (answer, good) { output.textContent = answer.status >= 200 && answer.status < 300 ? good + took(answer) : failure(answer); };
    byId("key-form").addEventListener("submit", async function (submit) {
      submit.preventDefault();
      output.textContent = "writing …";
      const answer = await put(key.value, value.value);
      told(answer, "written: index " + answer.body.index + ", term " + answer.body.term);
    });
    byId("read").addEventListener("click", async function () {
      const answer = await onKey("GET", key.value);
      const found = answer.body.value !== undefined && answer.body.value !== null ? JSON.stringify(answer.body.value) : "base64 " + answer.body.value_b64;
      if (answer.status === 404) { output.textContent = "there is no such key" + took(answer); } else { told(answer, found + ", last changed at index " + answer.body.index); }
    });
    byId("delete").addEventListener("click", async function () {
      const answer = await onKey("DELETE", key.value);
      if (answer.status === 404) { output.textContent = "there was no such key" + took(answer); } else { told(answer, "deleted: index " + answer.index); }
    });
    byId("write-many").addEventListener("click", async function () {
      const began = performance.now();
      for (let i = 1; i <= 100; i += 1) {
        const answer = await put(key.value + "-" + i, value.value);
        if (answer.status >= 300 || answer.status === 0) { told(answer, ""); return; }
        output.textContent = i + " of 100 written, index " + answer.body.index + " (" + (performance.now() - began).toFixed(0) + " ms)";
      }
    });
    byId("heal").addEventListener("click", function () { self.heal(); });
    byId("partition").addEventListener("click", function () {
      const groups = {};
      byId("groups").querySelectorAll("button").forEach(function (button) {
        (groups[button.dataset.group] = groups[button.dataset.group] || []).push(Number(button.dataset.node));
      });
      self.partition(Object.keys(groups).sort().map(function (name) { return groups[name]; }));
    });
    const ends = function () { return [Number(byId("link-from").value), Number(byId("link-to").value)]; };
    byId("link-form").addEventListener("submit", function (submit) {
      submit.preventDefault();
      self.link(ends()[0], ends()[1], { delay_ms: Number(byId("link-delay").value) || 0 });
    });
    byId("cut-link").addEventListener("click", function () { self.link(ends()[0], ends()[1], { cut: true }); });
  };

  // The nodes of the forms: a press moves a node to the next group.
  Actions.prototype.nodes = function (ids) {
    const names = "ABC";
    byId("groups").replaceChildren.apply(byId("groups"), ids.map(function (id, i) {
      const button = h("button", { type: "button", "data-node": id, title: "to the next group" });
      const show = function (group) {
        button.dataset.group = group;
        button.textContent = "node " + id + ": " + group;
      };
      show(i < (ids.length - 1) / 2 ? "A" : "B");
      button.addEventListener("click", function () { show(names[(names.indexOf(button.dataset.group) + 1) % names.length]); });
      return button;
    }));
    ["link-from", "link-to"].forEach(function (name, i) {
      byId(name).replaceChildren.apply(byId(name), ids.map(function (id) { return h("option", { value: id, text: String(id), selected: id === ids[Math.min(i, ids.length - 1)] }); }));
    });
  };

  Barge.Actions = Actions;
  Barge.rest = { request: request, put: put, failure: failure };
})(window.Barge);
