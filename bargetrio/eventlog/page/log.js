"use strict";
// A running daemon's page fetches its table again when something happened; a saved file hides rows by its filters.
(function () {
  function start() {
    var form = document.getElementById("filters");
    if (document.body.dataset.live === "yes") { follow(form); } else { form.addEventListener("change", hideRows); hideRows(); }
  }

  function hideRows() {
    var form = document.getElementById("filters");
    var nodes = chosen(form, "node"), kinds = chosen(form, "kind"), beats = chosen(form, "heartbeats").length > 0;
    document.querySelectorAll("#log tbody tr[data-kind]").forEach(function (row) {
      var data = row.dataset;
      row.hidden = (data.heartbeat && !beats)
        || (nodes.length > 0 && data.node !== "" && nodes.indexOf(data.node) < 0)
        || (kinds.length > 0 && kinds.indexOf(data.kind) < 0);
    });
  }

  function chosen(form, name) {
    return Array.from(form.querySelectorAll("input[name=" + name + "]:checked")).map(function (box) { return box.value; });
  }

  function follow(form) {
    var box = document.getElementById("follow"), banner = document.getElementById("banner"), tag = "";
    form.addEventListener("change", function (change) { if (change.target !== box) { form.submit(); } });
    async function refresh() {
      if (box.checked && !document.hidden) {
        try {
          var answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
          if (answer.status === 200) {
            tag = answer.headers.get("ETag") || "";
            var fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("log");
            if (fresh) { document.getElementById("log").replaceWith(fresh); }
          }
          banner.hidden = answer.status === 200 || answer.status === 304;
          banner.textContent = banner.hidden ? "" : "The daemon answers with " + answer.status + ".";
        } catch (problem) {
          banner.hidden = false;
          banner.textContent = "The daemon does not answer; trying again.";
        }
      }
      setTimeout(refresh, 1000);
    }
    setTimeout(refresh, 1000);
  }

  if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", start); } else { start(); }
})();
