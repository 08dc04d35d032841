"""A bundle as one file: a tar archive (POSIX ustar) whose bytes depend on its content alone.

Written here and not by ``tarfile``, whose headers differ between releases of Python.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from instar.fsm.errors import InstarError

MEMBER_BYTES_MAX = 8**11 - 1
"""What a header in this form can say: 8 GiB."""
_BLOCK, _RECORD = 512, 10240


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder's files in the order of their names, without folders, times or owners.

    Raises:
        InstarError: a file is too large for the form.
    """
    paths = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    with archive.open("xb") as file:
        for name, path in paths:
            size = path.stat().st_size
            file.write(_header(name, size))
            with path.open("rb") as content:
                shutil.copyfileobj(content, file)
            file.write(bytes(-size % _BLOCK))
        file.write(bytes(2 * _BLOCK))
        file.write(bytes(-file.tell() % _RECORD))


def _header(name: str, size: int) -> bytes:
    if size > MEMBER_BYTES_MAX:
        raise InstarError(f"{name} is too large for an archive (8 GiB): export a folder, not a .tar")
    before = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, 0)
    after = b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    checksum = sum(before) + 8 * ord(" ") + sum(after)  # as if the checksum's own place held spaces
    return before + b"%06o\0 " % checksum + after
