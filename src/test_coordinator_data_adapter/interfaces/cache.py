"""The port of the cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from test_coordinator_data_adapter.interfaces.arguments import integer
from test_coordinator_data_adapter.models.values import JsonValue

__all__ = ["CacheRepository"]


class CacheRepository(ABC):
    r"""Values under keys, for a while.

    * A key is 1 to 1024 characters without control characters or lone surrogates.
    * A value is any JSON value of at most 1 MiB; it comes back equal and of the same type,
      and is a copy. JSON keys are str, integers have 64 bits, floats are finite.
    * A time to live is whole seconds, 1 to 2^31-1; an entry is gone the moment it is over.
    * Patterns are Redis globs and match the whole key as the caller knows it: ``*`` any
      text, ``?`` one character, ``[abc]``, ``[^a]``, ``[a-z]``, ``\`` takes the next
      character as it is. They match byte by byte of UTF-8, as Redis does. A pattern has at
      most 4096 characters, at most 32 of them an unescaped ``*``, and at most 128 others
      after the first ``*``: a server that matches a costlier one answers nobody meanwhile.
    * Nothing outside this repository's namespace is ever read or touched.
    * Bad input is an `InvalidValueError`; nothing was sent. A live backend also raises
      `UnavailableError`, `OutcomeUnknownError`, `OverloadedError`, `ConfigurationError`
      or `DataIntegrityError`, each within its deadline.
    * Calls on many keys are not atomic across keys.
    """

    @abstractmethod
    async def get(self, key: str) -> JsonValue:
        """The value of that key; None when there is none (or the value is null: `exists`)."""

    @abstractmethod
    async def set(self, key: str, value: JsonValue, ttl: int | None = None) -> bool:
        """Store a value, replacing the old one and its time to live.

        Args:
            key: where.
            value: what.
            ttl: seconds until it expires; None: never.

        Returns:
            True.
        """

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """Remove a key. True when it was there."""

    @abstractmethod
    async def exists(self, key: str) -> bool:
        """Whether the key is there."""

    @abstractmethod
    async def expire(self, key: str, ttl: int) -> bool:
        """Give a key a new time to live in seconds. True when it was there."""

    @abstractmethod
    async def get_ttl(self, key: str) -> int | None:
        """Whole seconds until the key expires, rounded up; None: no key or no expiry."""

    @abstractmethod
    async def increment(self, key: str, amount: int = 1) -> int:
        """Add to an integer in one atomic step; a missing key counts from 0, the expiry stays.

        Args:
            key: where.
            amount: what to add; an integer of 64 bits, negative ones included.

        Returns:
            The new value.

        Raises:
            InvalidValueError: the value is no integer, or the sum would not fit 64 bits;
                nothing was changed.
        """

    @abstractmethod
    async def get_many(self, keys: Iterable[str]) -> dict[str, JsonValue]:
        """The values of those keys that exist, in the order asked for."""

    @abstractmethod
    async def set_many(self, items: Mapping[str, JsonValue], ttl: int | None = None) -> bool:
        """Store many values with one time to live; every one is checked before any is sent.

        Returns:
            True.
        """

    @abstractmethod
    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove many keys. Returns how many were there."""

    @abstractmethod
    async def keys(self, pattern: str = "*") -> list[str]:
        """The keys that match, in the order of their code points.

        A key that is there throughout the call is in the answer, once; one that comes or
        goes meanwhile may be.
        """

    @abstractmethod
    async def delete_pattern(self, pattern: str) -> int:
        """Remove the keys that match, as `keys` finds them. Returns how many were there."""

    async def decrement(self, key: str, amount: int = 1) -> int:
        """Subtract: `increment` by the negative amount.

        Raises:
            InvalidValueError: as `increment`; also an amount of -2^63, which has no negative.
        """
        return await self.increment(key, -integer(amount, "amount"))

    async def flush_all(self) -> bool:
        """Remove every key of this namespace, and no other, ever. Returns True."""
        await self.delete_pattern("*")
        return True

    async def get_json(self, key: str) -> JsonValue:
        """The same as `get`: every value is JSON."""
        return await self.get(key)

    async def set_json(self, key: str, value: JsonValue, ttl: int | None = None) -> bool:
        """The same as `set`: every value is JSON."""
        return await self.set(key, value, ttl)
