"""The shop of the tests of selling, in a database that is not ours."""

from tests.selling.conftest import api, shop

__all__ = ["api", "shop"]
