"""Which exit code does a failure have?"""

from __future__ import annotations

# Kafka Connect's own codes, so that supervisors of either read them alike.
EXIT_OK = 0
EXIT_USAGE = 1
EXIT_UNEXPECTED = 2
EXIT_FAILED_START = 3


class CommandFailed(Exception):
    """A command that ends here, with one line that says why.

    Attributes:
        message: the line; "" where the command has told it already.
        exit_code: one of the codes above.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        self.message = message
        self.exit_code = exit_code
        super().__init__(message)
