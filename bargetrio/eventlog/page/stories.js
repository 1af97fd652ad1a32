"use strict";
// The six stories of docs/tour.md as steps: what is said, where the paper says it, what is done by REST, and what must be seen before
// the next step. `done` is asked with a context that has the state and the events since the story began.
window.Barge = window.Barge || {};
(function (Barge) {
  const rest = Barge.rest;
  const running = function (c, id) { return c.state().nodes[id].state === "running"; };
  const caughtUp = function (c, id) { const leader = c.leader(); return leader && running(c, id) && c.state().nodes[id].applied >= leader.commit; };
  const others = function (c, id) { return c.state().ids.filter(function (other) { return other !== id; }); };
  const event = function (c, kind, fields) { return c.seen(function (e) { return e.kind === kind && (!fields || fields(e)); }); };

  const healed = {
    say: "First all faults are healed, and every node runs and follows one leader.", paper: "Raft 5.1",
    act: async function (c) {
      await rest.request("DELETE", "/faults");
      for (const id of c.state().ids) { if (!running(c, id)) { await rest.request("POST", "/nodes/" + id + "/revive"); } }
    },
    done: function (c) { const leader = c.leader(); return leader && c.state().ids.every(function (id) { return running(c, id) && c.state().nodes[id].leader === leader.id; }); }
  };

  Barge.stories = [
    {
      id: "election", name: "1. An election",
      steps: [healed,
        {
          say: "The leader is killed, so that there is an election to watch.",
          paper: "Raft 5.2",
          act: async function (c) { c.keep.old = c.head().id; c.keep.term = c.head().term; await c.kill(c.keep.old); },
          done: function (c) { return event(c, "node_killed"); }
        },
        {
          say: "No heartbeat comes. The node whose random time-out ends first asks the others whether they would vote for it, before it raises its term.",
          paper: "Raft 5.2, Ongaro 9.6",
          done: function (c) { return event(c, "pre_vote_requested"); }
        },
        {
          say: "They grant it. It raises its term, votes for itself and asks for votes.",
          paper: "Raft 5.2",
          done: function (c) { return event(c, "vote_requested"); }
        },
        {
          say: "A voter gives its vote to one candidate a term, and answers when the vote is on its disk.",
          paper: "Raft 5.2, Raft 5.4.1",
          done: function (c) { return event(c, "vote_granted"); }
        },
        {
          say: "With a majority of votes it leads, and begins its term with an empty entry; once that is committed, so is everything before it.",
          paper: "Raft 5.2, Raft 5.4.2",
          done: function (c) { const leader = c.leader(); return leader && leader.term > c.keep.term && leader.commit >= leader.last; }
        },
        {
          say: "The old leader is revived, and becomes a follower.",
          paper: "Raft 5.1",
          act: function (c) { return c.revive(c.keep.old); },
          done: function (c) { return caughtUp(c, c.keep.old); }
        }]
    },
    {
      id: "heartbeats", name: "2. Heartbeats",
      steps: [healed,
        {
          say: "Nothing seems to happen. But every few dozen milliseconds the leader sends each follower an append without entries: the small dots on the ring. Each starts the follower's time-out anew: see its arc fall back.",
          paper: "Raft 5.2",
          act: function (c) { c.keep.term = c.head().term; c.keep.beats = c.beats(); },
          done: function (c) { return c.beats() > c.keep.beats + 40; }
        },
        {
          say: "As long as they come, no election begins: the term stays the same.",
          paper: "Raft 5.2",
          done: function (c) { return c.leader() && c.leader().term === c.keep.term; }
        },
        {
          say: "The leader is cut off: its heartbeats reach nobody. The arcs of the others fill up ...",
          paper: "Raft 5.2",
          act: function (c) { c.keep.old = c.head().id; return c.cut([[c.keep.old], others(c, c.keep.old)]); },
          done: function (c) { return event(c, "pre_vote_requested", function (e) { return e.node !== c.keep.old; }); }
        },
        {
          say: "... and one of them takes over, in a higher term.",
          paper: "Raft 5.2",
          done: function (c) { const leader = c.leader(); return leader && leader.id !== c.keep.old; }
        },
        healed]
    },
    {
      id: "write", name: "3. A write",
      steps: [healed,
        {
          say: "A client writes 100 = Some Value. The leader appends the entry to its log, and sends it to every follower.",
          paper: "Raft 5.3",
          act: async function (c) { c.keep.answer = await rest.put("100", "Some Value"); c.told(c.keep.answer); },
          done: function (c) { return event(c, "append_sent", function (e) { return !e.heartbeat; }); }
        },
        {
          say: "A follower answers when the entry is on its disk. With its own disk that makes a majority: the entry is committed, and no later leader can be without it.",
          paper: "Raft 5.3, Raft 5.4",
          done: function (c) { return event(c, "append_accepted", function (e) { return !e.heartbeat; }) && event(c, "commit_advanced"); }
        },
        {
          say: "The leader applies it to its store and answers the client, with the entry's index.",
          paper: "Raft 5.3",
          done: function (c) { return event(c, "request_answered"); }
        },
        {
          say: "The followers learn with the next append, here a heartbeat, that it is committed, and apply it too.",
          paper: "Raft 5.3",
          done: function (c) { return c.state().ids.every(function (id) { return c.state().nodes[id].applied >= c.keep.answer.body.index; }); }
        }]
    },
    {
      id: "follower", name: "4. A follower falls",
      steps: [healed,
        {
          say: "A follower is killed. That is a crash: nothing is flushed, and no peer is notified.",
          paper: "Raft 5.5",
          act: async function (c) { c.keep.id = others(c, c.head().id)[0]; await c.kill(c.keep.id); },
          done: function (c) { return event(c, "node_killed"); }
        },
        {
          say: "Twenty writes go on without it: a majority is left.",
          paper: "Raft 5.3",
          act: async function (c) { for (let i = 1; i <= 20; i += 1) { c.told(await rest.put("tour-" + i, String(i))); } },
          done: function (c) { return c.leader() && c.leader().commit > c.state().nodes[c.keep.id].last; }
        },
        {
          say: "It is revived: it reads its term, its vote and its log from its disk.",
          paper: "Raft 5.5",
          act: function (c) { return c.revive(c.keep.id); },
          done: function (c) { return event(c, "node_recovered", function (e) { return e.node === c.keep.id; }); }
        },
        {
          say: "The leader finds the last entry that they share, and sends what is missing.",
          paper: "Raft 5.3",
          done: function (c) { return caughtUp(c, c.keep.id); }
        }]
    },
    {
      id: "leader", name: "5. The leader falls",
      steps: [healed,
        {
          say: "A write, and the leader is killed right after its answer. The next write is sent at once.",
          paper: "Raft 5.2",
          act: async function (c) {
            c.told(await rest.put("before", "1"));
            c.keep.old = c.head().id; c.keep.term = c.head().term;
            await c.kill(c.keep.old);
            c.keep.next = rest.put("between", "2");
          },
          done: function (c) { return event(c, "node_killed"); }
        },
        {
          say: "That write waits until there is a new leader.",
          paper: "Raft 5.2",
          act: async function (c) { c.told(await c.keep.next); },
          done: function (c) { return c.leader() && c.leader().term > c.keep.term; }
        },
        {
          say: "The old leader comes back, hears of the higher term, and follows.",
          paper: "Raft 5.1, Raft 5.3",
          act: function (c) { return c.revive(c.keep.old); },
          done: function (c) { return caughtUp(c, c.keep.old) && c.state().nodes[c.keep.old].role === "follower"; }
        },
        {
          say: "What was answered before the fall is still there.",
          paper: "Raft 5.4",
          act: async function (c) { c.keep.read = await rest.request("GET", "/keys/before"); c.told(c.keep.read); },
          done: function (c) { return c.keep.read.status === 200; }
        }]
    },
    {
      id: "partition", name: "6. A partition",
      steps: [healed,
        {
          say: "The leader is cut off from the others, and a client that does not know writes to it.",
          paper: "Raft 5.4",
          act: async function (c) {
          c.keep.old = c.head().id; c.keep.term = c.head().term; c.keep.commit = c.head().commit;
          await c.cut([[c.keep.old], others(c, c.keep.old)]);
          rest.put("lost", "by the small side").then(function (answer) { c.told(answer); });
        }, done: function (c) { return event(c, "faults_changed") && c.state().nodes[c.keep.old].last > c.keep.commit; } },
        {
          say: "It has appended the entry, dashed in its log, and can commit nothing: it has no majority. After a time-out it steps down, and its client is told that the outcome of the write is unknown.",
          paper: "Ongaro 6.2",
          done: function (c) { return event(c, "role_changed", function (e) { return e.node === c.keep.old && e.detail.old === "leader"; }); }
        },
        {
          say: "The large side elects a leader in a higher term, and writes go on there.",
          paper: "Raft 5.2",
          act: async function (c) { c.told(await rest.put("shared", "after")); },
          done: function (c) { const leader = c.leader(); return leader && leader.id !== c.keep.old && leader.term > c.keep.term; }
        },
        {
          say: "Healed: the old leader deletes the entry that differs, and takes what the others have committed.",
          paper: "Raft 5.3",
          act: function (c) { return c.heal(); },
          done: function (c) { return event(c, "log_truncated", function (e) { return e.node === c.keep.old; }) && caughtUp(c, c.keep.old); }
        }]
    }
  ];
})(window.Barge);
