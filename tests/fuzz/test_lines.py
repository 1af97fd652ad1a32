"""Nearly valid lines, to codecs and to running nodes: only the intended errors, no hang, no effect without authentication.

The nodes run in virtual time, so that every time-out is waited for and nothing takes long.
"""

import logging
from contextlib import suppress
from random import Random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from bargetrio.kv.commands import check_commands
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.hello import hello_decoder
from bargetrio.protocol.lines import LineReader
from bargetrio.protocol.requests import BadRequest, Get, GetAnswer, MalformedLine, Put, decode_request
from bargetrio.raft.messages import AppendRequest, decode_message, encode_message
from bargetrio.simulator.stack.seed import deterministic
from bargetrio.simulator.stack.stack import Stack
from bargetrio.storage.lines import BadLine, decode_line, encode_line, find_line
from bargetrio.transport.network import Broken
from tests.fuzz.mutate import mutated
from tests.raft.cores import append

CODEC_CASES = 12_000
CONNECTIONS = 1_500
LINES = 4

CLIENT_HELLO = b'{"hello":"client","protocol":1,"cluster":"stack"}'
PEER_HELLO = b'{"hello":"peer","protocol":3,"cluster":"stack","node":1,"to":0,"standing":{"store":"s"},"nonce":"n"}'
REQUESTS = (
    b'{"id":1,"op":"put","key":"fuzz-1","value":"Some Value","if_index":0}',
    b'{"id":2,"op":"get","key":"fuzz-1","read":"linearizable"}',
    b'{"id":3,"op":"delete","key":"fuzz-1","if_index":3}',
    b'{"id":4,"op":"list","prefix":"fuzz","after":"","limit":10,"keys_only":true}',
    b'{"id":5,"op":"put","key":"fuzz-2","value_b64":"AAEC","if_absent":true}',
)
MESSAGES = (
    encode_message(append(term=3, log="1 2 3", commit=2, round=4)).rstrip(b"\n"),
    b'{"type":"vote_request","term":4,"candidate_id":1,"last_log_index":9,"last_log_term":3}',
    b'{"type":"append_reply","term":4,"follower_id":1,"success":true,"match_index":13,"prev_log_index":12,"round":7}',
)


def test_a_line_that_is_almost_a_request_is_one_or_is_refused() -> None:
    """BadRequest and MalformedLine, nothing else."""
    random = Random(1)
    for _ in range(CODEC_CASES // 3):
        try:
            decode_request(mutated(random, random.choice(REQUESTS)))
        except (BadRequest, MalformedLine):
            continue


def test_a_line_that_is_almost_a_message_is_one_or_is_refused() -> None:
    """What a node catches when it reads a peer, nothing else; and what passes can be applied (BUG-58)."""
    random = Random(2)
    for _ in range(CODEC_CASES // 3):
        try:
            message = decode_message(mutated(random, random.choice(MESSAGES)))
            if isinstance(message, AppendRequest):
                check_commands([entry.command for entry in message.entries])
        except (ValueError, RecursionError, BargeError):
            continue


def test_a_line_that_is_almost_a_hello_or_a_record_is_one_or_is_refused() -> None:
    """The first line of a connection; a line of the log, wherever it begins."""
    random = Random(3)
    for _ in range(CODEC_CASES // 6):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            hello_decoder.decode(mutated(random, random.choice((CLIENT_HELLO, PEER_HELLO))))
        line = mutated(random, encode_line(random.choice(MESSAGES))) + b"\n"
        with suppress(BadLine):
            decode_line(line, 0)
        find_line(line, 1)


async def _bother(stack: Stack, random: Random) -> None:
    """One client: a hello, nearly or fully valid, and some lines; it closes, or waits until it is disconnected."""
    node_id = random.randrange(3)
    connection = await stack.network.connect(f"node-{node_id}", 1)
    first = random.choice((CLIENT_HELLO, CLIENT_HELLO, PEER_HELLO.replace(b'"to":0', b'"to":%d' % node_id)))
    lines = [first if random.random() < 0.7 else mutated(random, first)]
    pool = REQUESTS if first == CLIENT_HELLO else MESSAGES
    lines += [line if random.random() < 0.2 else mutated(random, line) for line in random.choices(pool, k=LINES)]
    reader = LineReader(1 << 24)
    with trio.move_on_after(10):  # a client without an error may stay; then it disconnects
        try:
            for line in lines:
                connection.post(line + b"\n")
                if random.random() < 0.3:
                    await trio.sleep(random.uniform(0, 0.01))
            if random.random() < 0.5:
                connection.finish()
            while data := await connection.receive():
                for answer in reader.feed(data):
                    assert isinstance(msgspec.json.decode(answer), dict)
                if random.random() < 0.3:
                    break
        except Broken:
            pass
    connection.close()


@pytest.mark.parametrize("secret", [True, pytest.param(False, marks=pytest.mark.long)], ids=["with a peer secret", "without"])
def test_a_running_cluster_shrugs(secret: bool, caplog: pytest.LogCaptureFixture) -> None:
    """No node ends, no connection ends by a bug, writes stay; with a secret no unauthenticated connection changes the term."""
    random = Random(4)
    seed = 1 if secret else 2

    async def main() -> tuple[Any, ...]:
        stack = Stack(seed, 3, frozenset())
        async with trio.open_nursery() as nursery:
            await stack.start(nursery)
            while stack.local.known_leader() is None:
                await trio.sleep(0.05)
            await stack.cluster.execute(Put(id=0, key="kept", value="as it was"))
            before = stack.local.known_leader()
            for _ in range(CONNECTIONS // 30):
                async with trio.open_nursery() as crowd:
                    for _ in range(15):
                        crowd.start_soon(_bother, stack, random)
            await trio.sleep(2)
            kept = await stack.cluster.execute(Get(id=0, key="kept"))
            after = stack.local.known_leader()
            states = [view.state for view in stack.local.views()]
            stack.local.stop()
            nursery.cancel_scope.cancel()
        assert isinstance(kept, GetAnswer)
        return kept.value, before, after, states

    with deterministic(seed), caplog.at_level(logging.ERROR):
        value, before, after, states = trio.run(main, clock=trio.testing.MockClock(rate=0.0, autojump_threshold=0))
    assert value == "as it was"
    assert states == ["running"] * 3
    assert [record for record in caplog.records if "ended by an error" in record.message] == []
    if secret:
        assert before == after
