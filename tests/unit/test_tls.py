"""The one TLS model: its order, its default, and what each mode verifies."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.tls import TlsSettings, default_tls_mode, strictest


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
def identity(tmp_path: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("client@example.org")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


@pytest.mark.parametrize(
    ("hosts", "production", "mode"),
    [
        (("db.example",), True, "verify-full"),
        (("localhost",), True, "prefer"),
        (("localhost", "db.example"), True, "verify-full"),
        (("db.example",), False, "prefer"),
    ],
)
def test_the_default_is_strict_in_production_for_other_machines(hosts, production, mode):
    assert default_tls_mode(hosts, production=production) == mode


def test_the_strictest_of_several_modes_demands_most():
    assert strictest("disable", "verify-ca", "require") == "verify-ca"
    assert strictest("verify-full", "verify-ca") == "verify-full"
    assert strictest("disable", "prefer") == "prefer"


@pytest.mark.parametrize(
    ("mode", "verifies", "checks_name"),
    [
        ("prefer", ssl.CERT_NONE, False),
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_each_mode_verifies_what_its_name_says(mode, verifies, checks_name):
    context = TlsSettings(mode).context("postgres_tls")

    assert (context.verify_mode, context.check_hostname) == (verifies, checks_name)


def test_a_root_certificate_makes_require_verify_the_authority(authority):
    context = TlsSettings("require", root_certificate=authority).context("postgres_tls")

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.check_hostname


def test_a_root_certificate_is_trusted_instead_of_the_authorities_of_the_machine(authority):
    context = TlsSettings("verify-full", root_certificate=authority).context("postgres_tls")

    assert len(context.get_ca_certs()) == 1


def test_a_client_certificate_is_loaded_with_its_key(identity):
    certificate, key = identity
    settings = TlsSettings("require", certificate=certificate, key=key)

    assert isinstance(settings.context("postgres_tls"), ssl.SSLContext)


@pytest.mark.parametrize(
    ("field", "setting"), [("root_certificate", "redis_tls_ca"), ("certificate", "redis_tls_cert")]
)
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_that_cannot_be_used_is_refused_by_the_name_of_its_setting(
    tmp_path, field, setting, content
):
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=rf"{setting}\).* cannot"):
        TlsSettings("verify-full", **{field: file}).context("redis_tls")


def test_a_key_without_its_certificate_is_refused(identity):
    with pytest.raises(ConfigurationError, match="without its certificate"):
        TlsSettings("require", key=identity[1]).context("postgres_tls")


def test_a_key_of_another_certificate_is_refused(identity, tmp_path):
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("other@example.org").private_key_pem.write_to_path(str(other))

    with pytest.raises(ConfigurationError, match="do not belong together"):
        TlsSettings("require", certificate=identity[0], key=other).context("postgres_tls")
