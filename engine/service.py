"""The worker answers embedding and search requests on a Unix socket, so that the agent need not load the model.

A message is a 4-byte big-endian length and msgpack. The socket lies in ``.instar/``, which only its owner can enter.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from instar.fsm.errors import ConfigError, InstarError, ServiceError
from instar.fsm.words import Digest
from instar.store.long_waits import process_told, told_after

from .memory.answers import Answer, answer
from .memory.search import EVERYTHING, Filter, Found, check_asked, search
from .runtime import Runtime

logger = logging.getLogger("instar.engine")

BYTES_MAX = 256 * 1024 * 1024
PART_TEXTS, PART_CHARS = 16_384, 1 << 24
"""Of one request to embed: so many vectors, and four bytes a character, lie well under ``BYTES_MAX``."""
_NAME_BYTES_MAX = 108
_PEER = struct.Struct("iII")
"""Process, user and group of whoever listens."""
_WAITING_MAX = 128
"""So many may wait to be accepted; whoever comes then tries again."""
_RETRY_S = 0.02
_LONG_S = 20.0
"""An answer that takes longer than to load a model is told of."""
_LENGTH = struct.Struct(">I")


class EmbedRequest(Struct, tag="embed"):
    """Asks for the vectors of texts, in the active space or in the one that is named."""

    texts: list[str]
    space: str | None = None
    first: int = 0
    """The number of the first of them, where they are a part of more."""


class SearchRequest(Struct, tag="search"):
    """Asks for the rows of memory nearest to a text."""

    text: str
    k: int = 10
    wanted: Filter = EVERYTHING


class AnswerRequest(Struct, tag="answer"):
    """Asks for what the rows nearest to a text say is right."""

    text: str
    k: int
    wanted: Filter = EVERYTHING


class Embedded(Struct, tag="embedded"):
    """Vectors, float32 little-endian (texts, dim), and the space that they belong to."""

    space: str
    dim: int
    vectors: bytes


class FoundRows(Struct, tag="found"):
    """The rows of memory that were found."""

    rows: list[Found]


class Answered(Struct, tag="answered"):
    """The answer, and how sure it is."""

    answer: Answer


class Refused(Struct, tag="refused"):
    """Why a request could not be served, and whether something else is to be asked."""

    message: str
    argument: bool = False


Request = EmbedRequest | SearchRequest | AnswerRequest
Reply = Embedded | FoundRows | Answered | Refused
_REQUESTS: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Request)
_REPLIES: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Reply)


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Gives a name for the socket that is short enough for the kernel, however deep the folder lies.

    Through an open folder that takes /proc, which a container or a chroot may lack.
    """
    if len(os.fsencode(path)) < _NAME_BYTES_MAX:
        yield os.fspath(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


def listens(path: Path) -> bool:
    """Says whether somebody answers on a socket: one that a killed worker left refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with _address(path) as name:
                connection.connect(name)
        except OSError:
            return False
    return True


def _send(connection: socket.socket, message: Any) -> None:
    content = msgspec.msgpack.encode(message)
    connection.sendall(_LENGTH.pack(len(content)) + content)


def _receive(connection: socket.socket) -> bytes | None:
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > BYTES_MAX:
        raise ServiceError(f"a message of {length} bytes is over the limit of {BYTES_MAX}")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    content = bytearray()
    while len(content) < count:
        part = connection.recv(min(1 << 20, count - len(content)))
        if not part:
            return None
        content += part
    return bytes(content)


class Service:
    """Serves requests in threads of its own, beside the loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Listens from here on; a socket that a killed worker left is replaced."""
        path = self._runtime.workspace.socket
        path.unlink(missing_ok=True)
        with _address(path) as name:
            self._socket.bind(name)
        self._socket.listen(_WAITING_MAX)
        threading.Thread(target=self._accept, name="instar-service", daemon=True).start()

    def stop(self) -> None:
        """Stops listening."""
        self._socket.close()
        self._runtime.workspace.socket.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while content := _receive(connection):
                    _send(connection, self._answer(content))
            except (OSError, ServiceError) as error:
                logger.debug("a client went away: %s", error)

    def _answer(self, content: bytes) -> Reply:
        try:
            match _REQUESTS.decode(content):
                case EmbedRequest(texts=texts, space=space, first=first):
                    chosen, vectors = embed_texts(self._runtime, texts, space, first)
                    return Embedded(chosen, int(vectors.shape[1]), vectors.astype("<f4").tobytes())
                case SearchRequest(text=text, k=k, wanted=wanted):
                    return FoundRows(search(self._runtime, text, k, wanted))
                case AnswerRequest(text=text, k=k, wanted=wanted):
                    return Answered(answer(self._runtime, text, k, wanted))
                case other:
                    return Refused(f"unknown request {type(other).__name__}")
        except (InstarError, msgspec.MsgspecError) as error:
            return Refused(str(error), argument=isinstance(error, ConfigError))
        except Exception as error:  # a request must never end the worker
            logger.exception("a request failed")
            return Refused(f"{type(error).__name__}: {error}")


def embed_texts(
    runtime: Runtime, texts: Sequence[str], space: str | None = None, first: int = 0
) -> tuple[Digest, NDArray[np.float32]]:
    """Embeds texts in this process; a text that cannot be embedded is refused by its place, counted from ``first``.

    Raises:
        ConfigError: no checkpoint is called as ``space`` says, or the workspace has no model.
        ServiceError: a text cannot be embedded.
    """
    from .embedding.checkpoint_names import checkpoint_called
    from .embedding.models import active_space

    state = runtime.state
    chosen = active_space(state) if space is None else checkpoint_called(runtime.reader, state, space)
    vectors, failures = runtime.models.embed_each(chosen, texts)
    bad = [number for number, failure in enumerate(failures) if failure is not None]
    if bad:
        raise _unfit(first + bad[0], failures[bad[0]])
    return chosen, vectors


def _parts(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Parts texts into what one message bears, each with the number of its first; nothing is one empty part."""
    part: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        if part and (len(part) == PART_TEXTS or size + len(text) > PART_CHARS):
            yield number - len(part), part
            part, size = [], 0
        part.append(text)
        size += len(text)
    yield len(texts) - len(part), part


def _unfit(number: int, reason: str | None) -> ServiceError:
    return ServiceError(f"text {number} cannot be embedded: {reason}. Leave it out and ask again.")


class Client:
    """Asks a running worker; safe to share between threads, each request on a connection of its own."""

    def __init__(self, path: Path, timeout_s: float = 600.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def _ask(self, request: Request) -> Reply:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout_s)
            try:
                with _address(self._path) as name:
                    _connect(connection, name, self._timeout_s)
                pid = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
                with told_after(_LONG_S, lambda: _silent(pid)):
                    _send(connection, request)
                    content = _receive(connection)
            except OSError as error:
                raise ServiceError(f"the worker does not answer on {self._path}: {error}") from error
        if content is None:
            raise ServiceError("the worker ended while it was asked; see .instar/worker.log")
        reply: Reply = _REPLIES.decode(content)
        if isinstance(reply, Refused):
            raise ConfigError(reply.message) if reply.argument else ServiceError(reply.message)
        return reply

    def embed(self, texts: Sequence[str], space: str | None = None) -> tuple[Digest, NDArray[np.float32]]:
        """Gives the space and the vectors, float32 of shape (texts, dim) with unit rows.

        Many texts are asked for in parts, all of them in the space of the first.

        Raises:
            ConfigError: no checkpoint is called so, or the workspace has no model.
            ServiceError: the worker does not answer; a text that cannot be sent is refused by its place.
        """
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise _unfit(number, "it is no text")
        found: list[NDArray[np.float32]] = []
        for first, part in _parts([_sendable(text) for text in texts]):
            reply = self._ask(EmbedRequest(part, space, first))
            assert isinstance(reply, Embedded)
            space = reply.space
            flat = np.frombuffer(reply.vectors, dtype="<f4")
            found.append(flat.reshape(-1, reply.dim).astype(np.float32))
        assert space is not None
        return Digest(space), np.concatenate(found)

    def search(self, text: str, k: int, wanted: Filter = EVERYTHING) -> list[Found]:
        """Gives the rows of memory nearest to a text; raises what ``search`` does, and ServiceError."""
        check_asked(text, k)
        reply = self._ask(SearchRequest(_sendable(text), k, wanted))
        assert isinstance(reply, FoundRows)
        return reply.rows

    def answer(self, text: str, k: int, wanted: Filter = EVERYTHING) -> Answer:
        """Gives what the rows nearest to a text say is right; raises what ``answer`` does, and ServiceError."""
        check_asked(text, k)
        reply = self._ask(AnswerRequest(_sendable(text), k, wanted))
        assert isinstance(reply, Answered)
        return reply.answer


def _connect(connection: socket.socket, name: str, timeout_s: float) -> None:
    """Connects; where as many wait as may, the kernel refuses at once, whatever time was given."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            connection.connect(name)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)


def _silent(pid: int) -> str:
    return f"waiting for the worker, {process_told(pid)}, to answer: it is busy with something large, or hangs"


def _sendable(text: str) -> str:
    """Makes a text valid Unicode, as whoever embeds it does: half a surrogate pair cannot be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")
