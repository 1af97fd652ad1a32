"use strict";
// Small helpers. Whatever came from an event becomes text here, never markup.
window.Barge = window.Barge || {};
(function (Barge) {
  function fill(element, attributes, children) {
    Object.keys(attributes || {}).forEach(function (name) {
      const value = attributes[name];
      if (name === "text") { element.textContent = value; }
      else if (name.slice(0, 2) === "on") { element.addEventListener(name.slice(2), value); }
      else if (value !== null && value !== undefined && value !== false) { element.setAttribute(name, value === true ? "" : value); }
    });
    (children || []).forEach(function (child) { if (child) { element.append(child); } });
    return element;
  }

  function h(tag, attributes, children) { return fill(document.createElement(tag), attributes, children); }
  function svg(tag, attributes, children) { return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children); }
  function byId(id) { return document.getElementById(id); }

  // Say something only if it is not said already: screen readers repeat, and layouts are made again.
  function say(element, text) { if (element.textContent !== text) { element.textContent = text; } }
  function attribute(element, name, value) {
    if (value === null || value === false) { element.removeAttribute(name); }
    else if (element.getAttribute(name) !== String(value)) { element.setAttribute(name, value); }
  }

  // Make `parent` hold one child per item, made once per key and changed afterwards.
  function keyed(parent, items, keyOf, make, change) {
    const old = parent.keyedChildren || new Map();
    const now = new Map();
    let before = parent.firstChild;
    items.forEach(function (item) {
      const key = keyOf(item);
      const child = old.get(key) || make(item);
      change(child, item);
      now.set(key, child);
      if (child === before) { before = before.nextSibling; } else { parent.insertBefore(child, before); }
    });
    old.forEach(function (child, key) { if (!now.has(key)) { child.remove(); } });
    parent.keyedChildren = now;
  }

  function clock(seconds) {
    const moment = new Date(seconds * 1000);
    return seconds < 86400 ? (seconds).toFixed(3) + " s" : moment.toISOString().slice(11, 23);  // simulated time begins in 1970
  }

  function roleWord(node) {
    if (node.state === "running" || node.state === "unknown") { return (node.role || "unknown").replace(/_/g, "-"); }
    return node.state;
  }

  Barge.dom = { h: h, svg: svg, byId: byId, say: say, attribute: attribute, keyed: keyed, clock: clock, roleWord: roleWord };
})(window.Barge);
