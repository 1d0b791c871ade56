"""What can be wrong with a request to a worker? The texts are Kafka Connect's."""

from __future__ import annotations

from headrace.model.errors import ErrorCode, HeadraceError


class ConnectorNotFound(HeadraceError):
    """There is no connector of this name."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Connector {name} not found")


class TaskNotFound(HeadraceError):
    """The connector has no task of this number now."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, name: str, task: int) -> None:
        self.name = name
        self.task = task
        super().__init__(f"Task {name}-{task} not found")


class TaskElsewhere(HeadraceError):
    """The task is another worker's, which alone can restart it by itself."""

    code = ErrorCode.ALREADY_EXISTS

    def __init__(self, name: str, task: int, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"Task {name}-{task} runs on the worker {worker_id}: ask that one, or restart the "
            "connector with includeTasks=true"
        )


class ConnectorExists(HeadraceError):
    """The name is taken."""

    code = ErrorCode.ALREADY_EXISTS

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"Connector {name} already exists")


class ConnectorFromFile(HeadraceError):
    """The connector is what its file says, so that nothing else may change or remove it."""

    code = ErrorCode.ALREADY_EXISTS

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Connector {name} comes from a connector file of this worker's command line: change "
            "or leave out the file and start the worker again"
        )


class BadWorkerRequest(HeadraceError):
    """The request cannot be understood, or not now; the text says why."""

    code = ErrorCode.BAD_INPUT


class NotThere(HeadraceError):
    """A plugin or a logger that is not there."""

    code = ErrorCode.NOT_FOUND


class InvalidConnectorConfig(HeadraceError):
    """A connector's configuration cannot be used.

    Attributes:
        errors: by key, what is wrong with it.
    """

    code = ErrorCode.BAD_INPUT

    def __init__(self, errors: dict[str, str], plugin: str) -> None:
        self.errors = errors
        listed = "\n".join(f"{key}: {reason}" if key else reason for key, reason in errors.items())
        super().__init__(
            f"Connector configuration is invalid and contains the following {len(errors)} "
            f"error(s):\n{listed}\nYou can also find the above list of errors at the endpoint "
            f"`/connector-plugins/{plugin}/config/validate`"
        )
