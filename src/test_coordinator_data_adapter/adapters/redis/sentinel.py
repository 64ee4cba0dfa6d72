"""Finds the primary by asking Sentinels, and makes sure that it is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeAlias, cast

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel

from test_coordinator_data_adapter.adapters.redis.connection import ServerConnection, connected
from test_coordinator_data_adapter.adapters.redis.translation import (
    DRIVER_ERRORS,
    Phase,
    translate,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    UnavailableError,
)

__all__ = ["PrimaryConnector", "Sentinels"]

Address: TypeAlias = tuple[str, int]

_PRIMARY: Final = "master"


class Sentinels(Sentinel):
    """Several Sentinels, the one whose answer was right last is asked first.

    redis-py's own search loses a Sentinel when two connections reorder its list at once, takes a
    wrong password for an outage, and believes the first answer.
    """

    def __init__(self, clients: Sequence[Redis], options: dict[str, Any]) -> None:
        """Ask these clients, which have the given options."""
        super().__init__((), sentinel_kwargs=options)  # type: ignore[no-untyped-call] # pyright: ignore[reportUnknownMemberType] # redis-py's gap
        self.sentinels = [*clients]

    async def announced(self, service: str) -> AsyncIterator[tuple[Redis, Address]]:
        """Which Sentinel announces which primary, one Sentinel after the other.

        Raises:
            AdapterError: none of them has announced any, and why.
        """
        answers = unknown = announced = 0
        denied = False
        for sentinel in tuple(self.sentinels):
            try:
                known = cast("dict[str, dict[str, Any]]", await sentinel.sentinel_masters())
            except (exceptions.ConnectionError, exceptions.TimeoutError) as failure:
                denied = denied or isinstance(failure, exceptions.AuthenticationError)
                continue
            except exceptions.NoPermissionError:
                denied = True
                continue
            answers += 1
            state = known.get(service)
            if state is None:
                unknown += 1
            elif state["is_master"] and not state["is_sdown"] and not state["is_odown"]:
                announced += 1
                yield sentinel, (str(state["ip"]), int(state["port"]))
        if announced:
            return
        if answers == unknown > 0:
            raise ConfigurationError(
                f"the Sentinels do not know the service {service!r}: check the name at the end of"
                " redis_url"
            )
        if denied:
            raise ConfigurationError(
                "the Sentinels denied access: check redis_sentinel_username and"
                " redis_sentinel_password, and the user's rights"
                " (`test-coordinator-adapter redis acl`)"
            )
        raise UnavailableError(
            f"the Sentinels announce no primary of the service {service!r} at the moment: try again"
            if answers
            else "no Sentinel answers: check that they run at the hosts and ports of redis_url"
        )

    def prefer(self, sentinel: Redis) -> None:
        """Ask this one first from now on."""
        self.sentinels.remove(sentinel)
        self.sentinels.insert(0, sentinel)

    async def discover_master(self, service_name: str) -> Address:
        """What redis-py's own client asks for."""
        try:
            async for sentinel, address in self.announced(service_name):
                self.prefer(sentinel)
                return address
        except UnavailableError as failure:
            raise MasterNotFoundError(str(failure)) from None
        raise MasterNotFoundError


class PrimaryConnector:
    """Opens connections to the primary that a Sentinel announces, if it is one.

    A Sentinel that was cut off announces for a while what is a replica by now, or gone; then the
    next one is asked.
    """

    def __init__(
        self,
        service: str,
        sentinels: Sentinels,
        connection_to: Callable[[Address], AbstractConnection],
        *,
        connect_timeout: float,
    ) -> None:
        """Open nothing yet.

        Args:
            service: the name under which the Sentinels know the primary.
            sentinels: who is asked; each has a timeout of its own.
            connection_to: makes a connection that is not connected yet.
            connect_timeout: seconds for all of it.
        """
        self._service = service
        self._sentinels = sentinels
        self._connection_to = connection_to
        self._connect_timeout = connect_timeout

    async def connect(self) -> ServerConnection:
        """Connect to the primary.

        Raises:
            AdapterError: none was found, and why.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._connect_timeout
        failures: dict[Address, AdapterError] = {}
        async for sentinel, address in self._sentinels.announced(self._service):
            if address in failures:
                continue
            try:
                # Half of what is left, so that another Sentinel can be asked.
                async with asyncio.timeout((deadline - loop.time()) / 2):
                    connection = await connected(self._connection_to(address))
            except DRIVER_ERRORS as error:
                failures[address] = _unreachable(address, error)
                continue
            if connection.greeting.role in {_PRIMARY, None}:
                self._sentinels.prefer(sentinel)
                return connection
            await connection.abort()
            failures[address] = UnavailableError(
                f"the server at {_text(address)}, which a Sentinel announces as the primary, is a"
                " replica: try again; if it lasts, compare the Sentinels' answers to `SENTINEL"
                " GET-MASTER-ADDR-BY-NAME`"
            )
        refusals = (one for one in failures.values() if isinstance(one, ConfigurationError))
        raise next(refusals, next(iter(failures.values())))


def _unreachable(address: Address, error: BaseException) -> AdapterError:
    failure = translate(error, phase=Phase.CONNECTING, writes=False)
    if type(failure) is not UnavailableError:
        return failure
    return UnavailableError(
        f"the primary at {_text(address)}, which a Sentinel announces, cannot be reached from here:"
        " check that it runs, and that the announced address (replica-announce-ip) leads to it"
    )


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
