"""Private, persistent PostgreSQL and Redis-compatible servers in a folder."""

import sys

from test_coordinator_data_adapter.errors import ConfigurationError

if sys.platform == "win32":
    raise ConfigurationError("the embedded servers need Linux or macOS: name a server of your own")

from test_coordinator_data_adapter.embedded.postgres import EmbeddedPostgres, PostgresEndpoint
from test_coordinator_data_adapter.embedded.valkey import EmbeddedValkey, ValkeyEndpoint

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "PostgresEndpoint", "ValkeyEndpoint"]
