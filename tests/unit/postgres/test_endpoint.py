"""The URL and the TLS settings: what is understood, what is refused, what is never shown."""

from __future__ import annotations

import pytest
import trustme

from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.tls import TlsSettings

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
    assert (endpoint.hosts, endpoint.database) == ((("host", 5432),), "tests")


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

    assert (endpoint.user, endpoint.database) == ("me@us", "a@b")
    assert endpoint.hosts == (("host", 5432),)
    assert endpoint.application_name == "c@d"


def test_an_unknown_option_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"unknown option: sslmod$"):
        Endpoint.of(f"{URL}?sslmod=require", TlsSettings())


def test_neither_endpoint_nor_settings_show_the_password():
    endpoint = Endpoint.of(URL, TlsSettings())
    settings = DatabaseSettings(url=URL, schema="test")

    assert "hunter2" not in repr(endpoint) + str(endpoint) + repr(settings) + str(settings)


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

    assert endpoint.tls.mode == in_force


def test_an_authority_makes_require_verify_it(authority):
    endpoint = Endpoint.of(URL, TlsSettings("require", root_certificate=authority))

    assert endpoint.tls.mode == "verify-ca"


@pytest.mark.parametrize("mode", ["disable", "prefer"])
def test_certificates_that_nothing_would_use_are_refused(mode, authority):
    with pytest.raises(ConfigurationError, match="TLS is not required"):
        Endpoint.of(URL, TlsSettings(mode, root_certificate=authority))


def test_a_root_certificate_file_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"postgres_tls_ca.* cannot be read"):
        Endpoint.of(URL, TlsSettings("verify-full", root_certificate=tmp_path / "none.pem"))


def test_a_socket_needs_no_certificate_file(tmp_path):
    tls = TlsSettings("verify-full", root_certificate=tmp_path / "none.pem")

    endpoint = Endpoint.of("postgresql://user@%2Frun%2Fpostgresql/tests", tls)

    assert endpoint.hosts == (("/run/postgresql", 5432),)


def test_the_word_system_means_the_authorities_of_the_machine():
    endpoint = Endpoint.of(f"{URL}?sslmode=verify-full&sslrootcert=system", TlsSettings())

    assert endpoint.tls == TlsSettings("verify-full")


def test_a_tilde_is_the_home_folder():
    with pytest.raises(ConfigurationError, match="postgres_tls_ca"):
        Endpoint.of(f"{URL}?sslmode=verify-full&sslrootcert=~/none.pem", TlsSettings())


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_pgsslmode_counts_as_much_as_sslmode_in_the_url(mode):
    endpoint = Endpoint.of(URL, TlsSettings(), {"PGSSLMODE": mode})

    assert endpoint.tls.mode == mode


def test_sslmode_in_the_url_takes_precedence_over_pgsslmode():
    endpoint = Endpoint.of(f"{URL}?sslmode=disable", TlsSettings(), {"PGSSLMODE": "require"})

    assert endpoint.tls.mode == "prefer"


def test_pgsslmode_cannot_weaken_the_settings():
    endpoint = Endpoint.of(URL, TlsSettings("verify-full"), {"PGSSLMODE": "disable"})

    assert endpoint.tls.mode == "verify-full"


def test_an_unknown_pgsslmode_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="PGSSLMODE must be one of"):
        Endpoint.of(URL, TlsSettings(), {"PGSSLMODE": "hunter2"})


def test_the_certificate_variables_count_where_tls_is_required(authority, identity):
    environment = {
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(authority),
        "PGSSLCERT": str(identity[0]),
        "PGSSLKEY": str(identity[1]),
    }

    endpoint = Endpoint.of(URL, TlsSettings(), environment)

    assert endpoint.tls == TlsSettings(
        "verify-full", root_certificate=authority, certificate=identity[0], key=identity[1]
    )


def test_the_certificate_variables_alone_demand_nothing():
    endpoint = Endpoint.of(URL, TlsSettings(), {"PGSSLROOTCERT": "/other/program.pem"})

    assert endpoint.tls == TlsSettings("prefer")


def test_settings_and_url_take_precedence_over_the_certificate_variables(authority):
    environment = {"PGSSLROOTCERT": "/other/program.pem"}

    in_settings = Endpoint.of(URL, TlsSettings("require", root_certificate=authority), environment)
    in_url = Endpoint.of(
        f"{URL}?sslmode=require&sslrootcert={authority}", TlsSettings(), environment
    )

    assert in_settings.tls.root_certificate == in_url.tls.root_certificate == authority


def test_libpqs_variables_name_what_the_url_leaves_out():
    environment = {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "somebody",
        "PGDATABASE": "stored",
    }

    endpoint = Endpoint.of("postgresql:///", TlsSettings(), environment)

    assert endpoint.hosts == (("db.example", 5433),)
    assert (endpoint.user, endpoint.database) == ("somebody", "stored")


def test_a_url_without_a_database_means_the_one_named_like_the_user():
    assert Endpoint.of("postgresql://somebody@host", TlsSettings(), {}).database == "somebody"


def test_sqlalchemy_is_given_a_url_without_the_password():
    url = Endpoint.of(URL, TlsSettings()).url

    assert url.render_as_string(hide_password=False) == (
        "postgresql+asyncpg://user@db.example:5433/tests"
    )


@pytest.mark.parametrize("target", ["standby", "prefer-standby", "read-only", "hunter2"])
def test_a_target_that_accepts_no_writes_is_refused(target):
    with pytest.raises(ConfigurationError, match="target_session_attrs in the PostgreSQL URL"):
        Endpoint.of(f"{URL}?target_session_attrs={target}", TlsSettings())
    with pytest.raises(ConfigurationError, match="PGTARGETSESSIONATTRS") as refused:
        Endpoint.of(URL, TlsSettings(), {"PGTARGETSESSIONATTRS": target})

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("target", ["any", "primary", "read-write"])
def test_the_target_in_the_url_takes_precedence_over_the_variable(target):
    url = f"{URL}?target_session_attrs={target}"

    assert Endpoint.of(url, TlsSettings(), {"PGTARGETSESSIONATTRS": "standby"}).hosts
