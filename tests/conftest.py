"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.canaries import search_session
from tests.lab import Estate, HostSpec
from tests.lab.demo_site import DemoSite
from tests.lab.prefect_stack import PrefectStack
from tests.lab.seaweedfs import Seaweed, seaweedfs

# Machines are shared and noisy: how long an example takes says nothing here. CI tries the same examples
# each time, so that red means the change; everywhere else they are new each time.
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: tests with a Prefect server, then fault campaigns."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("prefect", "faults")])


@pytest.fixture(scope="session", autouse=True)
def _notes_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests saw of their stores is noted in a folder of their own, not in the account's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMPLIGHTER_NOTES", str(tmp_path_factory.mktemp("notes")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    """Remove what killed test runs left behind, before anything is started."""
    if os.geteuid() == 0:
        Estate.sweep()


@pytest.fixture(scope="session", autouse=True)
def _no_secret_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Grep what all tests left behind for every canary, when everything has ended."""
    yield
    search_session(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def patch_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    """A site whose four hosts are real and have updates waiting."""
    folder = tmp_path_factory.mktemp("patch")
    specs = [HostSpec(name, boot_seconds=1) for name in ("alpha", "beta", "gamma", "delta")]
    with Estate(f"patch-{os.getpid()}", specs, folder / "estate") as estate:
        site = DemoSite(folder / "site", estate, {"rollout": {"default": {
            "limits": {"soak_seconds": 0}, "waves": {"canary": 1, "shares": [50, 100]},
        }}})
        site.write()
        yield site


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory, patch_site: DemoSite) -> Iterator[PrefectStack]:
    """A real Prefect server with the MSP's worker and the site's deployments, without schedules."""
    folder: Path = tmp_path_factory.mktemp("prefect")
    with PrefectStack(folder, env=patch_site.env) as stack:
        stack.start_worker("msp")
        stack.deploy(patch_site.prefect_yaml())
        yield stack


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """A real S3 server, over HTTPS with an authority of its own."""
    with seaweedfs(tmp_path_factory.mktemp("s3"), tls=True) as server:
        yield server
