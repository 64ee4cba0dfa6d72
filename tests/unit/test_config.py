import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

import test_coordinator_data_adapter
from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.config import (
    closest_variable,
    mask_password,
    sources_of_settings,
    unknown_variables,
)

SECRET = "s3cr3t"

# A field stands here as long as the floor that reads it is not built.
NOT_READ_YET: set[str] = set()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_folder_below_home_is_found_where_no_shell_expands_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_EMBEDDED_DATA_DIR", "~/experiments")

    config = AdapterConfig(postgres_tls_ca=Path("~/ca.pem"))

    assert config.embedded_data_dir == tmp_path / "experiments"
    assert config.postgres_tls_ca == tmp_path / "ca.pem"


def test_an_instance_derives_its_schema_and_its_namespace() -> None:
    config = AdapterConfig(service_instance_name="test-coordinator-chaos1")

    assert config.postgres_schema == "test_coordinator_chaos1"
    assert config.redis_namespace == "test:test-coordinator-chaos1"


def test_start_up_is_strict_in_production_unless_told_otherwise() -> None:
    assert AdapterConfig(environment="production").startup_strict
    assert not AdapterConfig(environment="production", startup_strict=False).startup_strict


@pytest.mark.parametrize(
    ("environment", "host", "tls"),
    [
        ("production", "db.example", "verify-full"),
        ("production", "localhost", "prefer"),
        ("production", "127.0.0.1", "prefer"),
        ("production", "127.9.9.9", "prefer"),
        ("production", "LocalHost", "prefer"),
        ("production", "[::1]", "prefer"),
        ("production", "localhost.db.example", "verify-full"),
        ("production", "127.db.example", "verify-full"),
        ("production", "localhost,db.example", "verify-full"),
        ("development", "db.example", "prefer"),
    ],
)
def test_tls_is_verified_in_production_off_this_machine(
    environment: str, host: str, tls: str
) -> None:
    config = AdapterConfig(environment=environment, postgres_url=f"postgresql://u:p@{host}:5432/d")

    assert config.postgres_tls == tls


@pytest.mark.parametrize(
    ("place", "tls"),
    [
        ("/d", "prefer"),
        ("/d?host=/run/postgresql", "prefer"),
        ("/d?host=db.example", "verify-full"),
        ("localhost/d?host=db.example:5432", "verify-full"),
        ("/d?host=localhost&host=db.example", "verify-full"),
    ],
)
def test_the_hosts_among_the_options_of_a_url_count_as_hosts(place: str, tls: str) -> None:
    config = AdapterConfig(environment="production", postgres_url=f"postgresql://u:p@{place}")

    assert config.postgres_tls == tls


def test_a_private_server_is_on_this_machine_whatever_the_url_says(tmp_path: Path) -> None:
    config = AdapterConfig(
        environment="production",
        embedded_data_dir=tmp_path,
        postgres_url="postgresql://u:p@db.example/d",
    )

    assert config.postgres_tls == "prefer"


@pytest.mark.parametrize(
    ("service", "owner", "tls"),
    [
        ("localhost", "db.example", "verify-full"),
        ("db.example", "localhost", "prefer"),
        ("db.example", "other.example", "verify-full"),
    ],
)
def test_another_url_is_protected_by_its_own_host(service: str, owner: str, tls: str) -> None:
    config = AdapterConfig(environment="production", postgres_url=f"postgresql://u:p@{service}/d")

    assert config.postgres_tls_to(f"postgresql://u:p@{owner}/d") == tls


def test_what_is_said_of_tls_holds_for_every_url() -> None:
    config = AdapterConfig(environment="production", postgres_tls="require")

    assert config.postgres_tls_to("postgresql://u:p@localhost/d") == "require"


def test_settings_come_from_the_environment_and_unknown_ones_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_POOL_SIZE", "3")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_NO_SUCH_FIELD", "x")

    assert AdapterConfig().postgres_pool_size == 3


def test_settings_come_from_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TEST_COORDINATOR_ADAPTER_BATCH_SIZE=7\nOTHER=1\n")

    assert AdapterConfig().batch_size == 7


def test_a_dotenv_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("BATCH_SIZE=7".encode("utf-16"))

    with pytest.raises(ValidationError, match=r"\.env.*\n.*cannot be read: it is not UTF-8"):
        AdapterConfig()


@pytest.mark.parametrize(
    "environment",
    ["production", "Production", "PRODUCTION", "prod", " PROD ", "prod-eu", "prod2", "prd"],
)
def test_production_is_strict_however_it_is_spelled(environment: str) -> None:
    config = AdapterConfig(
        environment=environment, postgres_url="postgresql://me@db.example.com/mine"
    )

    assert config.startup_strict is True
    assert config.postgres_tls == "verify-full"


@pytest.mark.parametrize("environment", ["pre-production", "nonprod", "product-demo", "test", "1"])
def test_what_is_not_production_is_not_strict(environment: str) -> None:
    assert AdapterConfig(environment=environment).startup_strict is False


def test_unknown_keywords_are_rejected_with_the_setting_they_may_mean() -> None:
    with pytest.raises(ValidationError) as raised:
        AdapterConfig.model_validate(
            {"in_memry": True, "postgres_ulr": "postgresql://u:hunter2@h/d", "batch_size": 0}
        )

    problems = {error["loc"]: error["msg"] for error in raised.value.errors()}
    assert problems["in_memry",] == "is no setting; did you mean in_memory?"
    assert problems["postgres_ulr",] == "is no setting; did you mean postgres_url?"
    assert "greater than or equal to 1" in problems["batch_size",]
    assert "hunter2" not in str(raised.value) + raised.value.json()


def test_a_keyword_unlike_any_setting_is_rejected_too() -> None:
    with pytest.raises(ValidationError, match="is no setting"):
        AdapterConfig.model_validate({"values": 1})


def local_variables(error: BaseException) -> Iterator[object]:
    """What an error tracker records: the local variables of every frame of every exception."""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if Path(frame.f_code.co_filename) != Path(__file__):
                yield dict(frame.f_locals)
        seen = seen.__cause__ or seen.__context__


REJECTED: list[dict[str, object]] = [
    {"postgres_url": "mysql://u:hunter2@h/d"},
    {"redis_url": "redis://:hunter2@h/ 0"},
    {"postgres_url": "postgresql://u:hunter2@h/d", "batch_size": 0},
    {"postgres_url": "postgresql://u:hunter2@h/d", "heartbeat_interval": 1000},
]


@pytest.mark.parametrize("construct", [lambda v: AdapterConfig(**v), AdapterConfig.model_validate])
@pytest.mark.parametrize("values", [*REJECTED, {"postgres_ulr": "postgresql://u:hunter2@h/d"}])
def test_no_frame_of_a_rejected_config_holds_a_url(
    values: dict[str, object], construct: Callable[[dict[str, object]], AdapterConfig]
) -> None:
    with pytest.raises(ValidationError) as raised:
        construct(values)

    for variables in local_variables(raised.value):
        assert "hunter2" not in repr(variables)


@pytest.mark.parametrize("values", REJECTED)
def test_no_frame_of_a_rejected_environment_holds_a_url(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"TEST_COORDINATOR_ADAPTER_{name.upper()}", str(value))

    with pytest.raises(ValidationError) as raised:
        AdapterConfig()

    for variables in local_variables(raised.value):
        assert "hunter2" not in repr(variables)


def test_unknown_variables_are_listed_with_the_one_they_may_mean(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_ULR", "x")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_BATCH_SIZE", "7")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_TEST_POSTGRES_URL", "for the tests")
    (tmp_path / ".env").write_text("TEST_COORDINATOR_ADAPTER_WHATEVER=1\nOTHER=1\n")

    unknown = unknown_variables()

    assert unknown == [
        "TEST_COORDINATOR_ADAPTER_POSTGRES_ULR",
        "TEST_COORDINATOR_ADAPTER_WHATEVER",
    ]
    assert [closest_variable(name) for name in unknown] == [
        "TEST_COORDINATOR_ADAPTER_POSTGRES_URL",
        None,
    ]


def test_an_unreadable_dotenv_file_has_no_unknown_variables(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("BATCH_SIZE=7".encode("utf-16"))

    assert unknown_variables() == []


def test_each_setting_has_a_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_BATCH_SIZE", "7")
    (tmp_path / ".env").write_text(
        "TEST_COORDINATOR_ADAPTER_BATCH_SIZE=8\nTEST_COORDINATOR_ADAPTER_LOG_LEVEL=ERROR\n"
    )

    sources = sources_of_settings()

    assert sources.keys() == AdapterConfig.model_fields.keys()
    assert sources["batch_size"] == "environment"
    assert sources["log_level"] == "file"
    assert sources["postgres_schema"] == "derived"
    assert sources["query_timeout"] == "default"


def test_an_empty_variable_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_SCHEMA", "")

    assert AdapterConfig().postgres_schema == "test_coordinator"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("postgres_pool_size", -1),
        ("postgres_pool_size", 0),
        ("postgres_max_overflow", -1),
        ("postgres_pool_timeout", 0),
        ("query_timeout", "soon"),
        ("query_timeout", "inf"),
        ("query_timeout", "nan"),
        ("postgres_lock_timeout", 1e10),
        ("redis_pool_timeout", "inf"),
        ("batch_size", 0),
        ("batch_size", 10_001),
        ("postgres_url", f"mysql://u:{SECRET}@h/d"),
        ("postgres_url", f"u:{SECRET}@h/d"),
        ("postgres_url", f"postgresql://u:{SECRET} @h/d"),
        ("redis_url", f"http://u:{SECRET}@h"),
        ("migration_url", f"mysql://u:{SECRET}@h/d"),
        ("service_instance_name", "a_b"),
        ("service_instance_name", "-a"),
        ("service_instance_name", "a-"),
        ("service_instance_name", ""),
        ("service_instance_name", "services"),
        ("service_instance_name", "Services"),
        ("service_instance_name", "a" * 64),
        ("service_instance_name", "pg-x"),
        ("postgres_schema", 'a"; drop schema x'),
        ("redis_namespace", "a b"),
        ("redis_namespace", "a:"),
        ("log_level", "LOUD"),
        ("test_runs_retention_days", -1),
        ("health_check_timeout", 0),
    ],
)
def test_a_bad_value_is_one_error_that_names_the_field_and_hides_the_value(
    field: str, value: object
) -> None:
    with pytest.raises(ValidationError) as caught:
        AdapterConfig.model_validate({field: value})

    error = caught.value
    named = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
    told = f"{error} {error!r} {error.errors()} {error.json()}"
    derived = {"pg-x": "postgres_schema"}.get(str(value), field)
    assert named == {derived}
    assert SECRET not in told
    assert error.error_count() == 1


def test_a_threshold_below_the_heartbeat_is_refused_and_shows_no_url() -> None:
    with pytest.raises(ValidationError, match="stale_service_threshold") as caught:
        AdapterConfig(postgres_url=f"postgresql://u:{SECRET}@h/d", stale_service_threshold=30)

    assert SECRET not in f"{caught.value.errors()} {caught.value.json()} {caught.value!r}"


@pytest.mark.parametrize("backend", ["postgres", "redis"])
def test_a_certificate_without_its_key_is_refused(backend: str) -> None:
    with pytest.raises(ValidationError, match=f"{backend}_tls_key must be given together"):
        AdapterConfig.model_validate({f"{backend}_tls_cert": "/x"})


def test_nothing_the_config_says_of_itself_shows_a_password() -> None:
    config = AdapterConfig(
        postgres_url=f"postgresql://u:{SECRET}@h/d",
        migration_url=f"postgresql://owner:{SECRET}@h/d",
        redis_url=f"redis://:{SECRET}@h",
        redis_sentinel_password=SecretStr(SECRET),
    )

    told = [repr(config), str(config), str(config.model_dump()), config.model_dump_json()]
    assert not any(SECRET in text for text in told)
    assert "***" in config.model_dump_json()


def test_the_url_fields_hold_the_plain_text_they_were_given() -> None:
    url = f"postgresql://u:{SECRET}@h/d"

    config = AdapterConfig(postgres_url=url)

    assert config.postgres_url == url
    assert config.model_copy().postgres_url == url
    assert pickle.loads(pickle.dumps(config)).postgres_url == url  # noqa: S301 - just made


def test_a_config_cannot_be_changed_under_an_open_factory() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AdapterConfig().batch_size = 3  # type: ignore[misc] # what is tested


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "rediss+sentinel"])
def test_every_way_to_redis_can_be_configured(scheme: str) -> None:
    url = f"{scheme}://h1/service"

    assert AdapterConfig(redis_url=url).redis_url == url


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql+asyncpg://u:PW@h:5432/db", "postgresql+asyncpg://u:***@h:5432/db"),
        ("redis://:PW@h/0", "redis://:***@h/0"),
        ("postgresql://u:p@PW/s#w?rd@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:PW/x@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:12/PW@host/db", "postgresql://u:***@host/db"),
        ("postgresql://u:a://PW@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/db?password=PW&x=1", "postgresql://u@h/db?password=***&x=1"),
        ("postgresql://u@h/db?sslpassword=PW", "postgresql://u@h/db?sslpassword=***"),
        ("host=h password='P W' dbname=d", "host=h password=*** dbname=d"),
        ("redis+sentinel://u:PW@h1:1,h2:2/svc/0", "redis+sentinel://u:***@h1:1,h2:2/svc/0"),
        ("postgresql://u:PW@[::1]:5432/db", "postgresql://u:***@[::1]:5432/db"),
        ("u:PW@h", "u:***@h"),
        ("postgresql://u@h/db?pass%77ord=PW", "postgresql://u@h/db?pass%77ord=***"),
        ("redis://h?apikey=PW&api_key=PW", "redis://h?apikey=***&api_key=***"),
        ("redis://h?auth=PW&authorization=PW", "redis://h?auth=***&authorization=***"),
        ("redis://h?access_key=PW&author=me", "redis://h?access_key=***&author=me"),
        ("redis://h?auth=PW", "redis://h?auth=***"),
    ],
)
def test_a_password_is_masked_in_any_url_shape(url: str, masked: str) -> None:
    assert mask_password(url) == masked
    assert AdapterFactory._mask_password(url) == masked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "postgresql://localhost/db",
        "postgresql://u@h:5432/db",
        "redis://h:6379/0",
        "redis://h:6379/0?client_name=a@b",
        "redis+sentinel://h1:26379,h2:26379/mymaster/0",
        "redis://[::1]:6379/0",
        "unix:///tmp/redis.sock",
        "postgresql://h/db?sslkey=/k.pem&author=a",
    ],
)
def test_a_url_without_a_password_comes_back_unchanged(url: str) -> None:
    assert mask_password(url) == url


@given(
    scheme=st.sampled_from(["postgresql", "redis", "rediss", "unix", "x+y"]),
    user=st.text("abc", max_size=3),
    password=st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1, max_size=9),
    tail=st.sampled_from(["host/db", "host:1/0?a=b", "h1,h2:3/x"]),
)
def test_no_password_whatever_its_characters_survives(
    scheme: str, user: str, password: str, tail: str
) -> None:
    marked = f"{SECRET}{password}{SECRET}"

    masked = mask_password(f"{scheme}://{user}:{marked}@{tail}")

    assert SECRET not in masked
    assert masked.endswith(f"@{tail}")


def test_every_setting_is_described() -> None:
    undescribed = [
        name for name, field in AdapterConfig.model_fields.items() if not field.description
    ]

    assert undescribed == []


def test_every_setting_is_read_or_stands_on_the_list_of_those_that_are_not_yet() -> None:
    package = Path(test_coordinator_data_adapter.__file__).parent
    code = "\n".join(path.read_text() for path in package.rglob("*.py") if path.name != "config.py")

    unread = {name for name in AdapterConfig.model_fields if f"config.{name}" not in code}

    # These two decide the defaults of others, in config.py itself.
    assert unread - {"environment", "service_name"} == NOT_READ_YET


def test_the_schema_of_the_settings_can_be_dumped() -> None:
    assert json.dumps(AdapterConfig.model_json_schema())
