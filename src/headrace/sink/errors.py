"""What can go wrong between Kafka and a target, and who must act?

Three classes, told apart by the error's code alone: a record that is wrong by itself, a
target that cannot take anything now, and a setup that an operator must change.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final

from headrace.model.errors import ErrorCode, HeadraceError

# The Java names that Kafka Connect writes into a dead letter's context headers, and that
# people match on: who found the error, and what it was.
DATA_EXCEPTION: Final = "org.apache.kafka.connect.errors.DataException"
SINK_TASK_CLASS: Final = "org.apache.kafka.connect.sink.SinkTask"


class Stage(StrEnum):
    """Where on its way a record failed, as Kafka Connect names it."""

    KEY_CONVERTER = "KEY_CONVERTER"
    VALUE_CONVERTER = "VALUE_CONVERTER"
    HEADER_CONVERTER = "HEADER_CONVERTER"
    TRANSFORMATION = "TRANSFORMATION"
    TASK_PUT = "TASK_PUT"


class Reason(StrEnum):
    """Why a record was refused, in few enough words to count by."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE_PACK = "invalid_message_pack"
    INVALID_SCHEMA = "invalid_schema"
    TRANSFORMATION_FAILED = "transformation_failed"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_OPERATION = "invalid_operation"
    INVALID_VERSION = "invalid_version"
    NO_SUCH_POINT = "no_such_point"
    INVALID_ID = "invalid_id"
    INVALID_COLLECTION_NAME = "invalid_collection_name"
    INVALID_PAYLOAD = "invalid_payload"
    INVALID_TEXT = "invalid_text"
    INVALID_VECTOR = "invalid_vector"
    WRONG_VECTOR_DIMENSION = "wrong_vector_dimension"
    UNKNOWN_VECTOR_NAME = "unknown_vector_name"
    TOO_LARGE = "too_large"
    REFUSED_BY_TARGET = "refused_by_target"


class FailureClass(Enum):
    """Who must act: the record's producer, nobody (try again), or an operator."""

    RECORD = "record"
    TARGET = "target"
    SETUP = "setup"


_FAILURE_CLASSES: Final = {
    ErrorCode.BAD_INPUT: FailureClass.RECORD,
    ErrorCode.INVALID_BODY: FailureClass.RECORD,
    ErrorCode.RATE_LIMITED: FailureClass.TARGET,
    ErrorCode.NO_SPACE: FailureClass.TARGET,
    ErrorCode.TIMEOUT: FailureClass.TARGET,
    ErrorCode.UNAVAILABLE: FailureClass.TARGET,
}


def failure_class(error: HeadraceError) -> FailureClass:
    """The class of an error that a target raised; what is not listed needs an operator."""
    return _FAILURE_CLASSES.get(error.code, FailureClass.SETUP)


class ConfigError(HeadraceError):
    """A connector's configuration cannot be used.

    Attributes:
        key: the configuration key at fault; "" if it is the file as a whole.
    """

    code = ErrorCode.BAD_INPUT

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"{key}: {reason}" if key else reason)


class TaskFailed(HeadraceError):
    """A task cannot go on until somebody acts; the text says what to do."""

    code = ErrorCode.INTERNAL


class RequestTooLarge(HeadraceError):
    """The target takes no request of this size; a smaller one it may take."""

    code = ErrorCode.BAD_INPUT


class Unauthenticated(HeadraceError):
    """The target does not accept the API key."""

    code = ErrorCode.UNAUTHENTICATED


class RecordError(HeadraceError):
    """One record is wrong by itself, whatever the state of the target.

    Attributes:
        reason: what dead letters are counted by.
        stage: where it failed.
        class_name: the Java name of what Kafka Connect would have been running.
    """

    code = ErrorCode.BAD_INPUT

    def __init__(
        self,
        detail: str,
        reason: Reason,
        stage: Stage = Stage.TASK_PUT,
        class_name: str = SINK_TASK_CLASS,
    ) -> None:
        self.reason = reason
        self.stage = stage
        self.class_name = class_name
        super().__init__(detail)
