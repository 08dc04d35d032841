"""What stands between a client and its server: it counts how often the client waits, and loses answers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Between:
    """Hands everything on between one port of this machine and the server of an URL.

    Attributes:
        url: the same database, by this port.
        turns: how often a client had sent something and waited for an answer.
        lost: how many answers were lost.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = parts.hostname, parts.port
        self._listening = socket.create_server(("127.0.0.1", 0))
        user = parts.netloc.rpartition("@")[0]
        own = f"{user}@127.0.0.1:{self._listening.getsockname()[1]}"
        self.url = parts._replace(netloc=own).geturl()
        self.turns = self.lost = 0
        self._losing, self._shutting, self._shut = b"", False, False
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def lose(self, answer: bytes, *, and_shut: bool = False) -> None:
        """Loses the next answer that holds some bytes, with its connection; no other one is made until ``open``."""
        self._losing, self._shutting = answer, and_shut

    def open(self) -> None:
        """Lets clients connect again."""
        self._shut = False

    def close(self) -> None:
        """Ends every connection, and takes no further one."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join()
        for one in self._ends:
            _end(one)
        for thread in self._threads:
            thread.join()
        for one in self._ends:
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self._shut:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._ends += client, server
                said = [""]
                for one, other, who in ((client, server, "client"), (server, client, "server")):
                    self._threads.append(threading.Thread(target=self._hand_on, args=(one, other, who, said)))
                    self._threads[-1].start()

    def _hand_on(self, one: socket.socket, other: socket.socket, who: str, said: list[str]) -> None:
        with suppress(OSError):
            while content := one.recv(1 << 16):
                if who == "server" and self._losing and self._losing in content:
                    self._losing, self._shut = b"", self._shutting
                    self.lost += 1
                    break
                self.turns += who == "client" and said[0] != who
                said[0] = who
                other.sendall(content)
        _end(one)
        _end(other)


def _end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
