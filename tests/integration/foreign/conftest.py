"""The shop of the tests of selling, in a database that is not ours; and the release before."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.selling.conftest import api, shop
from tests.support.releases import taken_from_history
from tests.support.templates import Templates

__all__ = ["api", "shop"]


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the release before."""
    return taken_from_history(tmp_path_factory.mktemp("before"))


@pytest.fixture
async def blank_url(templates: Templates) -> AsyncIterator[str]:
    """A database with nothing in it, for the superuser that the release before wanted."""
    name = f"test_{uuid4().hex}"
    await templates.surroundings.administer(f'create database "{name}"')
    # As everywhere but in tests: whoever waits for a lock waits for a second.
    await templates.surroundings.administer(
        f"alter database \"{name}\" set deadlock_timeout = '1s'"
    )
    yield templates.surroundings.admin_url(name)
    await templates.surroundings.administer(f'drop database "{name}" with (force)')
