"""The one error the lab raises at its callers."""


class LabError(RuntimeError):
    """Something the lab needs is missing or did not happen; the message is one line."""
