"""The system account that root's servers run as, and that nothing else uses."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from test_coordinator_data_adapter.embedded import EmbeddedPostgres, EmbeddedValkey, account
from test_coordinator_data_adapter.errors import ConfigurationError

NOBODY = 65534

pytestmark = pytest.mark.usefixtures("as_root")


@pytest.fixture
def new_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an account that does not exist yet."""
    name = f"tcda-test-{secrets.token_hex(4)}"
    monkeypatch.setattr(account, "_SYSTEM_ACCOUNT", name)
    yield name
    subprocess.run(["userdel", name], capture_output=True, check=False)


async def test_no_process_of_another_user_reaches_the_servers_of_root(kind, folder):
    async with kind.start_in(folder):
        server = psutil.Process(kind.pid(folder))
        user = server.uids().real
        intruder = subprocess.run(  # noqa: ASYNC221 - it ends at once
            ["ls", f"/proc/{server.pid}/cwd/"],
            user=NOBODY,
            group=NOBODY,
            extra_groups=(),
            capture_output=True,
            text=True,
            check=False,
        )

    assert pwd.getpwuid(user).pw_name == "tcda-servers"
    assert "Permission denied" in intruder.stderr


async def test_the_account_is_created_on_first_use_and_can_do_nothing_else(new_folder, new_account):
    async with EmbeddedValkey(new_folder):
        created = pwd.getpwnam(new_account)
        owner = (new_folder / "valkey" / "data").stat().st_uid

    assert owner == created.pw_uid
    assert 0 < created.pw_uid < 1000
    assert created.pw_shell.endswith("nologin")
    assert not Path(created.pw_dir).exists()  # noqa: ASYNC240 - not awaited
    assert os.getgrouplist(new_account, created.pw_gid) == [created.pw_gid]


async def test_root_starts_nothing_when_the_account_cannot_be_created(
    new_folder, new_account, monkeypatch, tmp_path
):
    useradd = tmp_path / "useradd"
    useradd.write_text("#!/bin/sh\necho 'useradd: cannot open /etc/passwd' >&2\nexit 1\n")
    useradd.chmod(0o755)
    monkeypatch.setattr(account, "_ADMINISTRATORS_PATH", str(tmp_path))
    monkeypatch.setattr(account, "_CREATE_PAUSE", 0.0)

    with pytest.raises(ConfigurationError) as refused:
        await EmbeddedPostgres(new_folder).start()

    assert f"{new_account!r}, which cannot be created (useradd: cannot open" in str(refused.value)
    assert f"add it with `useradd --system {new_account}`" in str(refused.value)


async def test_root_starts_nothing_where_accounts_cannot_be_created(
    new_folder, new_account, monkeypatch, tmp_path
):
    monkeypatch.setattr(account, "_ADMINISTRATORS_PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match="there is no program useradd"):
        await EmbeddedPostgres(new_folder).start()


async def test_an_account_that_shares_its_user_id_is_refused(new_folder, new_account):
    subprocess.run(  # noqa: ASYNC221 - it ends at once
        ["useradd", "--no-create-home", "--non-unique", "--uid", str(NOBODY), new_account],
        check=True,
    )

    with pytest.raises(ConfigurationError, match="belongs to another user as well"):
        await EmbeddedPostgres(new_folder).start()
