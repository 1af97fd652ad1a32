"""Why a node refuses to start on its folder: one line each for the operator."""

import errno


def is_out_of_space(problem: BaseException | None) -> bool:
    """Return whether a full disk, or a quota, is the cause: that may pass, and the disk has not failed."""
    while problem is not None:
        if isinstance(problem, BaseExceptionGroup):
            return any(is_out_of_space(each) for each in problem.exceptions)
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        problem = problem.__cause__
    return False


class StorageError(Exception):
    """The folder can't be used; the text says why, where, and what to do."""


class FolderInUse(StorageError):
    """Another process, or another node of this one, has the folder's lock."""


class WrongFolder(StorageError):
    """The folder belongs to another cluster or node, or to a newer format."""


class DamagedLog(StorageError):
    """The log has damage that no crash explains; the text has file, offset and index (BUG-54)."""


class DamagedSnapshot(StorageError):
    """A snapshot's file is damaged; the text has file and offset."""
