"""Redis glob patterns, matched byte by byte as Redis does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["glob_matcher"]

# The bytes one position of the key may hold; None stands for a star.
_Token = frozenset[int] | None

_ANY: Final = frozenset(range(256))
_NONE: Final = frozenset[int]()
_FIRST_NEGATIVE: Final = 128


def _signed(byte: int) -> int:
    # Redis compares the ends of a range as C's plain char, which is signed where it runs.
    return byte - 256 if byte >= _FIRST_NEGATIVE else byte


def _one_class(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """The class that opens at ``at`` and where the pattern goes on behind it."""
    at += 1
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern):
        if pattern[at : at + 1] == b"\\" and at + 1 < len(pattern):
            at += 1
            members.add(pattern[at])
        elif pattern[at : at + 1] == b"]":
            break
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            low, high = sorted((_signed(pattern[at]), _signed(pattern[at + 2])))
            members.update(byte % 256 for byte in range(low, high + 1))
            at += 2
        else:
            members.add(pattern[at])
        at += 1
    return (_ANY - members if negated else frozenset(members)), at + 1


def _tokens(pattern: bytes) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        if byte == b"[":
            members, at = _one_class(pattern, at)
            tokens.append(members)
            continue
        if byte == b"*":
            if not tokens or tokens[-1] is not None:
                tokens.append(None)
        elif byte == b"?":
            tokens.append(_ANY)
        else:
            at += byte == b"\\" and at + 1 < len(pattern)
            tokens.append(frozenset((pattern[at],)))
        at += 1
    return tokens


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether a whole key matches the pattern.

    It takes time in proportion to key times pattern at the worst, whatever the pattern.
    """
    tokens = _tokens(pattern.encode())

    def matches(key: str) -> bool:
        text = key.encode()
        at = token = 0
        star, resume = -1, 0
        while at < len(text):
            wanted = tokens[token] if token < len(tokens) else _NONE
            if wanted is None:
                star, resume = token, at
                token += 1
            elif text[at] in wanted:
                at += 1
                token += 1
            elif star >= 0:
                resume += 1
                at, token = resume, star + 1
            else:
                return False
        return all(left is None for left in tokens[token:])

    return matches
