from __future__ import annotations

import asyncpg
import pytest

from test_coordinator_data_adapter.adapters.postgres.audit import PostgresAuditRepository
from test_coordinator_data_adapter.testing.conformance import AuditStores, AuditSuite

SCHEMA = "test_coordinator"


@pytest.fixture
async def audit(shared_place, database):
    # Only the trail's owner and its auditor may empty it.
    owner = await asyncpg.connect(shared_place.owner.replace("+asyncpg", ""))
    await owner.execute(f"DELETE FROM {SCHEMA}.audit_records")
    await owner.close()
    return PostgresAuditRepository(database)


class TestAudit(AuditSuite):
    @pytest.fixture
    def stores(self, audit, scenarios, test_runs, chaos_events, test_results):
        return AuditStores(audit, scenarios, test_runs, chaos_events, test_results)
