"""Every error a user can meet: what happened, where, and what to do next.

    MmluPipeError
    ├─ ConfigError(path, key)
    ├─ DatasetError(path, line_number)
    ├─ ProgramError(path)
    ├─ RunFolderError(path)
    ├─ ErrorBudgetExceeded(failed, max_errors, first)
    ├─ RunCancelled(signal_number)
    ├─ EndpointError
    │  ├─ ComeBackLater(seconds) · RateLimited · EndpointUnavailable · ContentFiltered(categories) · Truncated · Refused
    │  ├─ SelectFailed(options, text) · AuthenticationFailed · EndpointRejected(status, code)
    │  └─ RequirementUnmet(field)
    ├─ RecordingError
    │  └─ CassetteMiss(nearest) · SecretInCassette(where)
    └─ BackendError
       ├─ BackendNotInstalled(extra) · SubmissionBlocked(objections)
       ├─ WorkspaceRejected(status, registered) · WorkspaceUnavailable(registered)
       └─ JobFailed(job, step, child_error) · JobCancelled(job) · DownloadFailed(path)

These are expected failures: the command line prints their message without a traceback and ends with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "AuthenticationFailed",
    "BackendError",
    "BackendNotInstalled",
    "CassetteMiss",
    "ComeBackLater",
    "ConfigError",
    "ContentFiltered",
    "DatasetError",
    "DownloadFailed",
    "EndpointError",
    "EndpointRejected",
    "EndpointUnavailable",
    "ErrorBudgetExceeded",
    "JobCancelled",
    "JobFailed",
    "MmluPipeError",
    "ProgramError",
    "RateLimited",
    "RecordingError",
    "Refused",
    "RequirementUnmet",
    "RunCancelled",
    "RunFolderError",
    "SecretInCassette",
    "SelectFailed",
    "SubmissionBlocked",
    "Truncated",
    "WorkspaceRejected",
    "WorkspaceUnavailable",
]


class MmluPipeError(Exception):
    """Base of all expected failures.

    Attributes:
        exit_code: what the command line ends with: 1 for a failed run, 2 for bad usage or input.
        kind: short name under which a failed line is counted.
        stops_run: whether the failure concerns the whole run rather than one line.
    """

    exit_code: int = 1
    kind: str = "error"
    stops_run: bool = False


class ConfigError(MmluPipeError):
    """A configuration file or option is missing, misspelt or contradictory."""

    exit_code = 2
    stops_run = True

    def __init__(self, message: str, *, path: Path | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.key = key


class DatasetError(MmluPipeError):
    """A dataset cannot be read as asked; the message lists every bad line found."""

    exit_code = 2
    stops_run = True

    def __init__(self, message: str, *, path: Path | None = None, line_number: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line_number = line_number


class ProgramError(MmluPipeError):
    """A guidance program breaks its contract or uses what a chat endpoint cannot do."""

    exit_code = 2
    kind = "program"
    stops_run = True

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class RunFolderError(MmluPipeError):
    """The output folder cannot be used."""

    exit_code = 2
    stops_run = True

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class ErrorBudgetExceeded(MmluPipeError):
    """More lines failed than `--max-errors` allows; everything answered so far is kept."""

    stops_run = True

    def __init__(self, message: str, *, failed: int, max_errors: str, first: str) -> None:
        super().__init__(message)
        self.failed = failed
        self.max_errors = max_errors
        self.first = first


class RunCancelled(MmluPipeError):
    """The run was stopped by a signal; everything answered so far is kept."""

    stops_run = True

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class EndpointError(MmluPipeError):
    """The endpoint gave no usable answer."""

    kind = "endpoint"


class ComeBackLater(EndpointError):
    """The endpoint asks for a longer wait than `--max-wait`; the run stops, and the same command continues it.

    Attributes:
        seconds: how long it asked to wait.
    """

    kind = "come_back_later"
    stops_run = True

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class RateLimited(EndpointError):
    """The endpoint kept answering 429 for longer than `--max-wait`."""

    kind = "rate_limited"


class EndpointUnavailable(EndpointError):
    """No connection, a time-out, a server error or an unreadable body, until the last attempt."""

    kind = "unavailable"


class ContentFiltered(EndpointError):
    """The content filter blocked the prompt or cut the answer.

    Attributes:
        categories: category → severity or `detected`, of those that were filtered.
    """

    kind = "content_filter"

    def __init__(self, message: str, *, categories: Mapping[str, str]) -> None:
        super().__init__(message)
        self.categories = dict(categories)


class Truncated(EndpointError):
    """The answer was cut by the token limit."""

    kind = "truncated"


class Refused(EndpointError):
    """The model refused to answer."""

    kind = "refused"


class SelectFailed(EndpointError):
    """The answer is not exactly one of the options of a `select`."""

    kind = "select_failed"

    def __init__(self, message: str, *, options: Sequence[str], text: str) -> None:
        super().__init__(message)
        self.options = tuple(options)
        self.text = text


class AuthenticationFailed(EndpointError):
    """401, 403 or no credential at all: no line can succeed."""

    kind = "authentication"
    stops_run = True


class EndpointRejected(EndpointError):
    """The endpoint answered that the request is wrong.

    Attributes:
        status: HTTP status.
        code: the error code of the body, if any.
    """

    kind = "rejected"

    def __init__(self, message: str, *, status: int, code: str | None, stops_run: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.stops_run = stops_run


class RequirementUnmet(EndpointError):
    """A field named by `--require` cannot be sent to this deployment."""

    exit_code = 2
    kind = "requirement"
    stops_run = True


class RecordingError(MmluPipeError):
    """A cassette cannot be read or written as asked."""

    exit_code = 2
    kind = "recording"
    stops_run = True


class CassetteMiss(RecordingError):
    """A request has no recording.

    Attributes:
        nearest: what differs from the nearest recording, or None where the cassette is empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, nearest: str | None) -> None:
        super().__init__(message)
        self.nearest = nearest


class SecretInCassette(RecordingError):
    """A recording would hold a credential."""

    def __init__(self, message: str, *, where: str) -> None:
        super().__init__(message)
        self.where = where


class BackendError(MmluPipeError):
    """A backend cannot run the pipeline."""

    stops_run = True


class BackendNotInstalled(BackendError):
    """The backend is unknown, or its extra is not installed."""

    exit_code = 2

    def __init__(self, message: str, *, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


class SubmissionBlocked(BackendError):
    """A plugin objects to the run; nothing was started."""

    exit_code = 2

    def __init__(self, message: str, objections: Sequence[str]) -> None:
        super().__init__(message)
        self.objections = tuple(objections)


class WorkspaceRejected(BackendError):
    """The workspace says that something asked for is wrong, missing or not allowed.

    Attributes:
        status: HTTP status, None where the SDK refused it before it was sent.
        registered: references of what this submission had registered before.
    """

    exit_code = 2

    def __init__(self, message: str, *, status: int | None = None, registered: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.registered = tuple(registered)


class WorkspaceUnavailable(BackendError):
    """The workspace, its storage or its registry cannot be reached, is throttled, or has a fault of its own."""

    def __init__(self, message: str, *, registered: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.registered = tuple(registered)


class JobFailed(BackendError):
    """A job ended without its outputs.

    Attributes:
        job: its name.
        step: the step that failed first, None where no step did.
        child_error: what that step says, with the end of its log.
    """

    def __init__(self, message: str, *, job: str, step: str | None = None, child_error: str | None = None) -> None:
        super().__init__(message)
        self.job = job
        self.step = step
        self.child_error = child_error


class JobCancelled(BackendError):
    """Somebody cancelled the job; what it had finished can be gone on from with `--resume-from`."""

    def __init__(self, message: str, *, job: str) -> None:
        super().__init__(message)
        self.job = job


class DownloadFailed(BackendError):
    """An output of a job is not there, or did not arrive as the job wrote it."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path
