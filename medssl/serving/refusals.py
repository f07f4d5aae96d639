"""What a caller is told when there is no answer: a status, a problem, what to do."""

from medssl.errors import MedSSLError

RETRY_S = 10
"""When to come back to a service that is full."""


class RefusalError(MedSSLError):
    """A request that is not answered; its words hold nothing of the request."""

    def __init__(self, status: int, code: str, problem: str, *, hint: str) -> None:
        super().__init__(problem, hint=hint)
        self.status, self.code = status, code

    @property
    def body(self) -> dict[str, str | None]:
        """What is sent."""
        return {"code": self.code, "problem": self.problem, "hint": self.hint}

    @property
    def headers(self) -> dict[str, str]:
        """What HTTP wants to be said with some statuses."""
        if self.status == UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": str(RETRY_S)} if self.status == UNAVAILABLE else {}


BAD_REQUEST, UNAUTHORIZED, SLOW_BODY, TOO_LARGE = 400, 401, 408, 413
UNUSABLE, BROKEN, UNAVAILABLE, TOO_SLOW = 422, 500, 503, 504


def full() -> RefusalError:
    """Return the refusal of a request that finds no place to wait."""
    hint = f"try again in {RETRY_S} seconds"
    return RefusalError(
        UNAVAILABLE, "full", "the service has as much to do as it takes on", hint=hint
    )


def too_large(most_mib: float) -> RefusalError:
    """Return the refusal of a body beyond the limit."""
    hint = "send one scan at a time, compressed; or have limits.most_body_mib raised"
    return RefusalError(
        TOO_LARGE, "too_large", f"the body is larger than {most_mib:g} MiB", hint=hint
    )


def too_slow(most_s: float) -> RefusalError:
    """Return the refusal of a request that took too long."""
    hint = "try again when less is asked of the service; or have limits.time_s raised"
    return RefusalError(TOO_SLOW, "too_slow", f"it took longer than {most_s:g} seconds", hint=hint)


def slow_body(most_s: float) -> RefusalError:
    """Return the refusal of a body that does not arrive."""
    hint = "send it over a faster connection; or have limits.upload_s raised"
    problem = f"the body did not arrive within {most_s:g} seconds"
    return RefusalError(SLOW_BODY, "slow_body", problem, hint=hint)


def unauthorized() -> RefusalError:
    """Return the refusal of a caller without the token."""
    hint = "send it as the header Authorization: Bearer TOKEN"
    return RefusalError(
        UNAUTHORIZED, "unauthorized", "the token is missing, or another one", hint=hint
    )


def broken() -> RefusalError:
    """Return what is said of a mistake of the service itself."""
    hint = "the log of the service says where; the same scan will fail again"
    return RefusalError(BROKEN, "broken", "the service failed at this request", hint=hint)
