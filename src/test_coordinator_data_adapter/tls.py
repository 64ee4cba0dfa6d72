"""Encryption of connections: the modes, the certificates, and the one place that applies them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.server_url import is_this_machine

if TYPE_CHECKING:
    import ssl

__all__ = ["TLS_MODES", "TlsMode", "TlsSettings", "default_tls_mode", "strictest"]

TlsMode: TypeAlias = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
"""libpq's names. "disable": never encrypted. "prefer": encrypted if the server offers it, which
anyone in between can prevent. "require": always encrypted, any certificate is accepted.
"verify-ca": the certificate must be signed by a trusted authority. "verify-full": and be issued
for this host name."""

TLS_MODES: Final[tuple[TlsMode, ...]] = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""Each is stricter than the one before."""


def strictest(*modes: TlsMode) -> TlsMode:
    """The mode that demands most."""
    return max(modes, key=TLS_MODES.index)


def default_tls_mode(hosts: Iterable[str], *, production: bool) -> Literal["prefer", "verify-full"]:
    """The mode where none is set: "verify-full" in production, unless all hosts are local."""
    strict = production and not all(map(is_this_machine, hosts))
    return "verify-full" if strict else "prefer"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How a connection is encrypted and what either side proves.

    Attributes:
        mode: what is demanded.
        root_certificate: a PEM file of the authorities to trust instead of the system's. With
            "require" it makes the authority verified, as with libpq.
        certificate: a PEM file with the certificate that this client presents.
        key: the PEM file of its private key, unencrypted; None if the certificate's file
            contains it.
    """

    mode: TlsMode = "prefer"
    root_certificate: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_demanded(self) -> bool:
        """Whether an unencrypted connection is refused."""
        return self.mode not in {"disable", "prefer"}

    @property
    def mode_in_force(self) -> TlsMode:
        """The mode, with what a root certificate adds to it."""
        if self.mode == "require" and self.root_certificate is not None:
            return "verify-ca"
        return self.mode

    def context(self, setting: str) -> ssl.SSLContext:
        """What a TLS handshake needs.

        Args:
            setting: how the names of the settings begin, for messages: "postgres_tls".

        Raises:
            ConfigurationError: a file cannot be used; the message names the setting.
        """
        import ssl

        mode = self.mode_in_force
        verifies = mode in {"verify-ca", "verify-full"}
        try:
            context = ssl.create_default_context(cafile=self.root_certificate if verifies else None)
        except (OSError, ValueError):
            raise ConfigurationError(
                f"the root certificate file ({setting}_ca) cannot be read or contains no"
                " PEM certificate",
                setting=f"{setting}_ca",
            ) from None
        context.check_hostname = mode == "verify-full"
        if not verifies:
            context.verify_mode = ssl.CERT_NONE
        if self.certificate is not None:
            try:
                # Without a password of ours, OpenSSL would ask for one on the terminal.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ValueError):
                raise ConfigurationError(
                    f"the client certificate ({setting}_cert) and its key ({setting}_key) cannot"
                    " be read, do not belong together, or the key is encrypted",
                    setting=f"{setting}_cert",
                ) from None
        elif self.key is not None:
            raise ConfigurationError(
                f"a client key ({setting}_key) is configured without its certificate"
                f" ({setting}_cert)",
                setting=f"{setting}_key",
            )
        return context
