"""Errors a user can act on. Everything else is a bug."""


class MedSSLError(Exception):
    """Base of every expected failure: what happened, then what to do about it.

    The text is shown to people and may reach logs and MLflow: it never holds an identifier.
    """

    exit_code = 1
    """What the command line ends with."""

    def __init__(self, problem: str, *, hint: str | None = None) -> None:
        super().__init__(problem if hint is None else f"{problem}\n  hint: {hint}")
        self.problem, self.hint = problem, hint


class ConfigError(MedSSLError):
    """The configuration is wrong, before anything has run."""


class FolderError(MedSSLError):
    """A folder holds something else than the stage expects, or is in use."""


class InputError(MedSSLError):
    """What a stage was given to read cannot be used: missing, empty, damaged, inconsistent."""


class TrainingError(MedSSLError):
    """A training cannot go on: a loss or a gradient is no longer a number."""


class PreemptedError(MedSSLError):
    """A training was told to stop, has saved its state, and is to be started again."""

    exit_code = 75
    """EX_TEMPFAIL of <sysexits.h>: try again later."""

    def __init__(self, problem: str, *, hint: str, exit_code: int = exit_code) -> None:
        super().__init__(problem, hint=hint)
        self.exit_code = exit_code


class RejectedFileError(MedSSLError):
    """One file or series cannot become a volume; bulk work turns this into a row with a reason."""

    def __init__(self, code: str, problem: str, *, skipped: bool = False) -> None:
        super().__init__(problem)
        self.code, self.skipped = code, skipped
