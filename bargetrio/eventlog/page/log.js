"use strict";
// The table of a running daemon is fetched again when something happened.
(function () {
  function start() {
    var form = document.getElementById("filters");
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
