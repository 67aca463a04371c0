"""Buckets as they really are: tests/cases/stores/buckets.yaml, one line a situation."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.secrets import Secret
from lamplighter.store.s3 import S3Store
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import S3Settings
from tests.lab.odd_s3 import BUCKET, OddS3, odd_s3
from tests.storecases import DO, Place

PREFIX = "acme/site"
CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "cases" / "stores" / "buckets.yaml").read_text(encoding="utf-8")
)


def place_at(server: OddS3) -> Place:
    settings = S3Settings(BUCKET, endpoint=server.endpoint, access_key="env:A", secret_key="env:B")

    def opened() -> S3Store:
        bucket = Bucket(settings, lambda reference: Secret("x" * 20, reference))
        return S3Store(bucket, f"s3://{BUCKET}/{PREFIX}")

    def done(what: str, key: str) -> None:
        whole = f"{PREFIX}/{key}"
        if what == "expire":
            server.expire(whole)
        elif what == "put":
            server.put(whole, b"something")
        elif what == "remove":
            del server.rows[whole]
        elif what == "lag":
            part, count = key.split()
            server.odd["lag"] = (part, int(count))
        else:
            method, part, times, fault = key.split()
            server.odd["faults"] = [[method, part, int(times), fault.strip('"')]]

    def kept() -> Callable[[], None]:
        copy = server.copy()

        def back() -> None:
            server.rows = copy
        return back

    return Place(opened, done, kept)


@pytest.mark.parametrize("case", CASES, ids=[case["name"].replace(" ", "-") for case in CASES])
def test_a_bucket_as_it_is(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    with odd_s3(**case["s3"]) as server:
        end, said = DO[case["do"]](place_at(server), case)
    assert end in case["ends"].split("|"), said
    assert re.search(case.get("says", ""), said), said
    assert not re.search(case.get("never", "(?!)"), said), said
