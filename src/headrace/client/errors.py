"""What can go wrong only where the engine runs in the caller's process?"""

from __future__ import annotations

from headrace.model.errors import ErrorCode, HeadraceError


class UsedAfterFork(HeadraceError):
    """A forked child used the store of its parent.

    Attributes:
        path: the data directory.
        owner_pid: the process that has it open.
    """

    code = ErrorCode.UNAVAILABLE

    def __init__(self, path: str, owner_pid: int) -> None:
        self.path = path
        self.owner_pid = owner_pid
        super().__init__(
            f"The data directory {path} was opened by process {owner_pid}, of which this "
            "process is a fork: let the children send their points to it, or serve the "
            "directory with `headrace serve` and connect to that"
        )


class MissingExtra(HeadraceError):
    """A function needs a package that is installed only on request.

    Attributes:
        package: the package.
        extra: of Headrace.
    """

    code = ErrorCode.NOT_SUPPORTED

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed: pip install 'headrace[{extra}]'")


class ArraysDisagree(HeadraceError):
    """Arrays that describe the same points, or that must have a certain shape, do not."""

    code = ErrorCode.BAD_INPUT
    prefix = "Wrong input: "
