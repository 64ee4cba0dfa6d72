"""The URL and the TLS settings: what is understood, what is refused, what is never shown."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings, TlsSettings
from test_coordinator_data_adapter.errors import ConfigurationError

URL = "postgresql://user:hunter2@db.example:5433/tests"


@pytest.fixture
def authority(tmp_path):
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


@pytest.fixture
def identity(tmp_path):
    issued = trustme.CA().issue_cert("client@example.org")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_usual_scheme_is_understood(scheme):
    endpoint = Endpoint.of(f"{scheme}://user@host/tests", TlsSettings())

    assert endpoint.url.drivername == "postgresql+asyncpg"
    assert (endpoint.url.host, endpoint.url.database) == ("host", "tests")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://host/tests",
        "host/tests",
        "",
        "postgresql+psycopg://host/tests",
        "postgresql://h:x/t",
    ],
)
def test_what_is_no_url_of_postgresql_is_refused(url):
    with pytest.raises(ConfigurationError, match="PostgreSQL URL"):
        Endpoint.of(url, TlsSettings())


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hun@ter2@host/tests",
        "postgresql://user:hun@ter2/hunter2@host/tests",
        "postgresql://user:hun?ter2@ter2/ter2@host/tests",
        "postgresql://user:hunter2@ter2@host:x/tests",
        "postgresql://user:hunter2@host:hunter2/tests",
        "postgresql://user:hunter2@host:0/tests",
        "postgresql://user:hunter2@host:65536/tests",
        "postgresql://user:hunter2@host:-5/tests",
        "postgresql://user:hunter2@host/tests?port=x",
        "postgresql://user:hunter2@/tests?host=a:1&host=b:65536",
        "postgresql://user:hunter2@/tests?host=a:x&host=b:1",
        "postgresql://user@host/tests?password=hunter2",
        "postgresql://user@host/tests?sslpassword=hunter2",
        "postgresql://user@host/tests?passfile=hunter2",
        "postgresql://user@host/tests?sslmode=hunter2",
        "postgresql://user@host/tests?hunter2=1",
        "hunter2://user:hunter2@host/tests",
    ],
)
def test_a_refusal_quotes_nothing_of_the_url(url):
    with pytest.raises(ConfigurationError) as refused:
        Endpoint.of(url, TlsSettings())

    assert "hunter2" not in str(refused.value)
    assert "ter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_escaped_at_sign_is_one_wherever_it_stands():
    endpoint = Endpoint.of(
        "postgresql://me%40us:p%40ss@host/a%40b?application_name=c@d", TlsSettings()
    )

    assert (endpoint.url.username, endpoint.url.password) == ("me@us", "p@ss")
    assert (endpoint.url.host, endpoint.url.database) == ("host", "a@b")
    assert endpoint.application_name == "c@d"


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"unknown option: sslmod$"):
        Endpoint.of(f"{URL}?sslmod=require", TlsSettings())


def test_neither_endpoint_nor_settings_show_the_password():
    endpoint = Endpoint.of(URL, TlsSettings())
    settings = DatabaseSettings(url=URL, schema="test")

    assert "hunter2" not in repr(endpoint) + str(endpoint) + repr(settings) + str(settings)


def test_a_socket_is_named_by_the_option_host():
    endpoint = Endpoint.of("postgresql://user@/tests?host=%2Frun%2Fpg&port=5433", TlsSettings())

    assert dict(endpoint.url.query) == {"host": "/run/pg", "port": "5433"}


def test_what_is_translated_does_not_reach_the_driver_a_second_time(authority):
    options = f"sslmode=verify-full&sslrootcert={authority}&application_name=x"

    endpoint = Endpoint.of(f"{URL}?{options}", TlsSettings())

    assert not endpoint.url.query
    assert endpoint.application_name == "x"


@pytest.mark.parametrize(
    ("in_settings", "in_url", "in_force"),
    [
        ("disable", "", "disable"),
        ("disable", "sslmode=disable", "disable"),
        ("disable", "sslmode=allow", "prefer"),
        ("disable", "sslmode=prefer", "prefer"),
        ("disable", "sslmode=require", "require"),
        ("disable", "ssl=require", "require"),
        ("disable", "ssl=true", "require"),
        ("disable", "sslmode=verify-ca", "verify-ca"),
        ("disable", "sslmode=verify-full", "verify-full"),
        ("prefer", "sslmode=disable", "prefer"),
        ("require", "sslmode=disable", "require"),
        ("require", "ssl=false", "require"),
        ("verify-full", "sslmode=disable", "verify-full"),
        ("verify-full", "sslmode=require", "verify-full"),
        ("verify-full", "sslmode=verify-ca", "verify-full"),
    ],
)
def test_the_stronger_of_settings_and_url_is_in_force(in_settings, in_url, in_force):
    endpoint = Endpoint.of(f"{URL}?{in_url}", TlsSettings(in_settings))

    assert endpoint.protection == in_force


def test_without_demand_the_way_is_plain_or_as_the_server_likes():
    plain = Endpoint.of(URL, TlsSettings("disable"))
    preferred = Endpoint.of(URL, TlsSettings("prefer"))

    assert plain.options["ssl"] is False
    assert preferred.options["ssl"] == "prefer"


@pytest.mark.parametrize(
    ("mode", "verifies", "checks_name"),
    [
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_each_demand_verifies_what_its_name_says(mode, verifies, checks_name):
    context = Endpoint.of(f"{URL}?sslmode={mode}", TlsSettings()).options["ssl"]

    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (verifies, checks_name)


def test_an_authority_makes_require_verify_it(authority):
    endpoint = Endpoint.of(URL, TlsSettings("require", root_certificate=authority))

    assert endpoint.protection == "verify-ca"
    assert endpoint.options["ssl"].verify_mode is ssl.CERT_REQUIRED


def test_a_certificate_of_the_client_is_loaded_with_its_key(identity):
    certificate, key = identity

    endpoint = Endpoint.of(URL, TlsSettings("require", certificate=certificate, key=key))

    assert isinstance(endpoint.options["ssl"], ssl.SSLContext)


@pytest.mark.parametrize("mode", ["disable", "prefer"])
def test_certificates_that_nothing_would_use_are_refused(mode, authority):
    with pytest.raises(ConfigurationError, match="nothing demands TLS"):
        Endpoint.of(URL, TlsSettings(mode, root_certificate=authority))


@pytest.mark.parametrize("name", ["root_certificate", "certificate"])
@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_that_cannot_be_used_is_a_matter_of_configuration(tmp_path, name, content):
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigurationError, match="cannot be read"):
        Endpoint.of(URL, TlsSettings("verify-full", **{name: file}))


def test_a_key_without_its_certificate_is_refused(identity):
    with pytest.raises(ConfigurationError, match="without its certificate"):
        Endpoint.of(URL, TlsSettings("require", key=identity[1]))


def test_a_key_of_another_certificate_is_refused(identity, tmp_path):
    other = tmp_path / "other.key"
    trustme.CA().issue_cert("other@example.org").private_key_pem.write_to_path(str(other))

    with pytest.raises(ConfigurationError, match="do not belong together"):
        Endpoint.of(URL, TlsSettings("require", certificate=identity[0], key=other))


def test_the_system_is_an_authority_by_libpqs_word_for_it():
    endpoint = Endpoint.of(f"{URL}?sslmode=verify-full&sslrootcert=system", TlsSettings())

    assert endpoint.options["ssl"].verify_mode is ssl.CERT_REQUIRED


def test_a_home_folder_is_found():
    with pytest.raises(ConfigurationError, match="authorities"):
        Endpoint.of(URL, TlsSettings("verify-full", root_certificate=Path("~/none.pem")))
