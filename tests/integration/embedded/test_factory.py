"""A factory on private servers, whatever the settings say of others."""

from __future__ import annotations

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory


async def test_settings_of_another_server_do_not_concern_the_private_ones(folder, tmp_path):
    authority = tmp_path / "authority.pem"
    config = AdapterConfig(
        embedded_data_dir=folder,
        environment="production",
        postgres_url="postgresql://somebody@db.example.com/somewhere",
        postgres_tls="verify-full",
        postgres_tls_ca=authority,
        redis_url="rediss://cache.example.com",
        redis_tls_ca=authority,
        redis_cluster=True,
    )

    async with AdapterFactory(config) as factory:
        health = await factory.health_check()
        both = [factory._postgres, factory._redis]
        answered = [supervised.supervisor._backend.answered_at for supervised in both]

    assert (health["status"], health["postgres"]["error"]) == ("healthy", None)
    assert health["postgres"]["embedded"]
    assert health["postgres"]["tls_asked"] == "disable"
    assert health["redis"]["embedded"]
    assert all(answered)
