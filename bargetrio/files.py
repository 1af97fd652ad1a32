"""Paths as people write them, and files that only their owner can read. Imports nothing of Barge."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

PART_CHARACTERS: Final = 60
"""Of a file's name, in the name of the file that is to replace it: with the rest this is below NAME_MAX, 255 bytes."""


def expanded(text: str) -> str:
    """Return the path with `~` and `~user` expanded; raise ValueError if there is no such user."""
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError(f"{text!r}: there is no user {path.partition('/')[0][1:]!r}; a file of that name is ./{text}")
    return path


def configured_path(text: str) -> str:
    """Return a path of the configuration, expanded; raise ValueError for a text that is certainly a mistake.

    The path's bytes are UTF-8 in every locale.
    """
    if not text:
        raise ValueError("it is empty")
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a control character")
    if text.startswith("$") or "${" in text:
        raise ValueError(f"{text!r}: variables are not expanded; write the path out")
    if "://" in text:
        raise ValueError(f"{text!r} is a URL, not a path")
    return expanded(os.fsdecode(text.encode()))


def check_ours(path: Path, beginnings: tuple[bytes, ...], what: str) -> None:
    """Raise OSError if a file is there that is neither empty nor begins as ours do: `what` it is not. Nothing of it is changed.

    What cannot be opened, and what is no regular file, is left to whoever writes it.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            head = file.read(max(map(len, beginnings))) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return
    if not any(beginning.startswith(head) or head.startswith(beginning) for beginning in beginnings):
        raise OSError(errno.EEXIST, f"it is there and is no {what}; it is left as it is", str(path))


def open_private(path: Path, flags: int) -> int:
    """Open a regular file, created if needed, with mode 0600; return the descriptor.

    Raises OSError. A symbolic link is not followed: the mode of the file that it points to would be changed.
    """
    try:
        found = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link; name the file itself") from None
        raise
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if stat.S_IMODE(mode) & 0o177:
            os.fchmod(found, 0o600)
    except BaseException:
        os.close(found)
        raise
    return found


@contextmanager
def replacing(path: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """Write a new file beside `path`, of mode 0600, and rename it to `path` when the block ends without an exception.

    Its temporary name is unique. Any exception, also one from a signal handler, removes it. With `sync`, file and name are on the
    disk at the end. A symbolic link stays one; what is no regular file (a device, a pipe) is not replaced. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")
    part = target.with_name(f".{target.name[:PART_CHARACTERS]}.{secrets.token_hex(6)}.part")
    try:
        # Within the try: a signal's handler may raise as this returns, when the file is there.
        number = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w+b") as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    if sync:
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it are on the disk; raise OSError."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
