"""Messages between a stub and the fork server: JSON behind its length, open files with the first byte."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
_MOST_BYTES = 2**26
_MOST_FILES = 253


def send(connection: socket.socket, message: dict[str, Any], files: list[int] | None = None) -> None:
    """Send a message and open files with it. Raises OSError."""
    text = json.dumps(message).encode()
    length = _LENGTH.pack(len(text))
    sent = socket.send_fds(connection, [length], files) if files else connection.send(length)
    connection.sendall(length[sent:] + text)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and the open files that came with it. Raises OSError where the other end closed or misspoke."""
    head, files, _, _ = socket.recv_fds(connection, _LENGTH.size, _MOST_FILES)
    try:
        length = _LENGTH.unpack(_rest(connection, head, _LENGTH.size))[0]
        if length > _MOST_BYTES:
            raise OSError(f"a message of {length} bytes")
        message = json.loads(_rest(connection, b"", length))
        if not isinstance(message, dict):
            raise OSError(f"a message that is no object: {message!r}")
    except ValueError as error:
        raise OSError(f"a message that is no JSON: {error}") from None
    return message, list(files)


def peer(connection: socket.socket) -> tuple[int, int]:
    """The process at the other end, and its user."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(credentials)
    return process, user


def _rest(connection: socket.socket, begun: bytes, size: int) -> bytes:
    while len(begun) < size:
        piece = connection.recv(size - len(begun))
        if not piece:
            raise OSError("the other end closed in the middle of a message")
        begun += piece
    return begun
