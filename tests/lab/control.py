"""Asking an estate's supervisor, over its socket, to do something or say how a host is."""

import json
import socket
from pathlib import Path
from typing import Any

from tests.lab.errors import LabError


def ask(path: Path, verb: str, *, timeout: float = 15, **fields: Any) -> dict[str, Any]:
    """Make one request.

    Args:
        path: the socket.
        timeout: in seconds.
        fields: by verb.

    Returns:
        The answer's fields.

    Raises:
        LabError: if nobody listens or the answer is an error.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps({"do": verb, **fields}).encode())
            answer = json.loads(connection.recv(65536))
    except (OSError, ValueError) as error:
        raise LabError(f"the estate's supervisor does not answer at {path}: {error}") from error
    if not answer.pop("ok"):
        raise LabError(f"the estate's supervisor: {answer['error']}")
    return dict(answer)
