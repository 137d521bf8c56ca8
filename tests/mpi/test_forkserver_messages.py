"""What goes through the connection of a stub and a fork server, byte by byte."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmpi.mpi.forkserver import messages

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_message_is_json_behind_its_length(pair: Pair) -> None:
    messages.send(pair[0], {"process": 7})
    assert pair[1].recv(100) == b"\0\0\0\x0e" + b'{"process": 7}'


@pytest.mark.parametrize("message", [{}, {"ended": -9}, {"environment": {"É": "x" * 300_000}}])
def test_a_message_arrives_as_it_was_sent(pair: Pair, message: dict) -> None:
    """The longest does not fit into a socket's buffer, and comes in pieces."""
    sending = threading.Thread(target=messages.send, args=(pair[0], message))
    sending.start()
    assert messages.receive(pair[1]) == (message, [])
    sending.join()


def test_messages_do_not_run_into_each_other(pair: Pair) -> None:
    messages.send(pair[0], {"process": 1})
    messages.send(pair[0], {"process": 23})
    assert [messages.receive(pair[1])[0]["process"] for _ in range(2)] == [1, 23]


@pytest.mark.parametrize("count", [1, 250])
def test_open_files_come_with_a_message(pair: Pair, tmp_path: Path, count: int) -> None:
    (tmp_path / "file").write_text("what is in it")
    files = [os.open(tmp_path / "file", os.O_RDONLY) for _ in range(count)]
    try:
        messages.send(pair[0], {"process": 7}, files)
        message, received = messages.receive(pair[1])
    finally:
        for file in files:
            os.close(file)
    assert message == {"process": 7}
    assert len(received) == count
    for file in received:
        assert os.pread(file, 100, 0) == b"what is in it"
        os.close(file)


def test_a_length_that_arrives_in_pieces(pair: Pair) -> None:
    whole = struct.pack("!I", 2) + b"{}"

    def send() -> None:
        for place in range(len(whole)):
            pair[0].sendall(whole[place : place + 1])

    sending = threading.Thread(target=send)
    sending.start()
    assert messages.receive(pair[1]) == ({}, [])
    sending.join()


@pytest.mark.parametrize("kept", [0, 3, 4, 10])
def test_an_end_in_the_middle_of_a_message_is_an_error(pair: Pair, kept: int) -> None:
    text = json.dumps({"process": 7}).encode()
    pair[0].sendall((struct.pack("!I", len(text)) + text)[:kept])
    pair[0].close()
    with pytest.raises(OSError, match="the other end closed in the middle of a message"):
        messages.receive(pair[1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[1]", r"a message that is no object: \[1\]"),
        (b"{1}", "a message that is no JSON: "),
        (b'"\xff"', "a message that is no JSON: "),
    ],
)
def test_what_is_no_message_is_an_error(pair: Pair, text: bytes, said: str) -> None:
    pair[0].sendall(struct.pack("!I", len(text)) + text)
    with pytest.raises(OSError, match=said):
        messages.receive(pair[1])


def test_a_message_of_more_than_64_mib_is_not_awaited(pair: Pair) -> None:
    pair[0].sendall(struct.pack("!I", 64 * 2**20 + 1))
    with pytest.raises(OSError, match="a message of 67108865 bytes"):
        messages.receive(pair[1])
    pair[0].sendall(struct.pack("!I", 64 * 2**20))
    pair[0].close()
    with pytest.raises(OSError, match="closed in the middle"):
        messages.receive(pair[1])


def test_the_peer_of_a_connection_is_a_process_of_a_user(pair: Pair) -> None:
    assert messages.peer(pair[0]) == (os.getpid(), os.getuid())
