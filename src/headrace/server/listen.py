"""Where do the fronts listen, and what is told when they cannot?"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterator, Sequence

import grpc
import grpc.aio

from headrace.model.errors import ErrorCode, HeadraceError
from headrace.server.options import ServeOptions, TlsFiles

logger = logging.getLogger(__name__)

# Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
_LISTEN_BACKLOG = 2048

# How long bytes that were sent may stay unacknowledged, or untaken by the peer.
_SILENT_PEER_MS = 120_000


class StartFailed(HeadraceError):
    """The server cannot start; the text says what to do about it."""

    code = ErrorCode.UNAVAILABLE


class AddressNotAvailable(StartFailed):
    """A front cannot listen where it was told to.

    Attributes:
        host: where it was told to listen.
        port: the port.
        setting: the setting that names the port.
        is_host_unknown: whether this machine has no such address, whatever the port.
    """

    def __init__(
        self, host: str, port: int, setting: str, reason: str, *, is_host_unknown: bool = False
    ) -> None:
        self.host = host
        self.port = port
        self.setting = setting
        self.is_host_unknown = is_host_unknown
        advice = (
            "Set host to an address of this machine (0.0.0.0 is all of them)"
            if is_host_unknown
            else f"Stop what holds it, or set {setting} to another port (0 takes a free one)"
        )
        super().__init__(f"Cannot listen on {authority(host, port)}: {reason}. {advice}")


@contextlib.contextmanager
def bound_sockets(host: str, port: int, setting: str) -> Iterator[list[socket.socket]]:
    """Sockets bound to every address that `host` has, all on one port; not listening yet.

    Bound before the store is opened, so that a taken port is told at once.

    Raises:
        AddressNotAvailable: the host is unknown, or the port is taken or forbidden.
    """
    with contextlib.ExitStack() as stack:
        try:
            sockets = [stack.enter_context(one) for one in _bind_all(host, port)]
        except OSError as error:
            is_host_unknown = (
                isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            )
            raise AddressNotAvailable(
                host, port, setting, _reason(error), is_host_unknown=is_host_unknown
            ) from error
        yield sockets


def listen(sockets: Sequence[socket.socket], setting: str) -> None:
    """Listen now: of two processes that bound one port, only one can.

    Raises:
        AddressNotAvailable: another process listens on the port since it was bound.
    """
    for one in sockets:
        host, port = one.getsockname()[:2]
        try:
            one.listen(_LISTEN_BACKLOG)
        except OSError as error:
            raise AddressNotAvailable(host, port, setting, _reason(error)) from error


def check_grpc_port(options: ServeOptions) -> None:
    """Tell a taken gRPC port before the store is opened, with the system's reason.

    gRPC binds its own sockets, after that, and gives no reason when it cannot.

    Raises:
        AddressNotAvailable: as `bound_sockets`.
    """
    if options.grpc_port:
        with bound_sockets(options.host, options.grpc_port, "grpc_port") as sockets:
            listen(sockets, "grpc_port")


def add_grpc_port(
    server: grpc.aio.Server, host: str, port: int, tls: TlsFiles | None = None
) -> int:
    """Bind the gRPC front; returns the port it really has.

    Raises:
        AddressNotAvailable: the port is taken or forbidden.
        StartFailed: the certificate or its key cannot be read.
    """
    address = authority(host, port)
    try:
        if tls is None:
            bound_port = server.add_insecure_port(address)
        else:
            bound_port = server.add_secure_port(address, _grpc_credentials(tls))
    except RuntimeError as error:
        raise AddressNotAvailable(host, port, "grpc_port", "it is in use") from error
    if bound_port == 0:
        raise AddressNotAvailable(host, port, "grpc_port", "it is in use")
    return bound_port


def check_tls_files(tls: TlsFiles) -> None:
    """Tell a certificate that cannot be used before the store is opened.

    Raises:
        StartFailed: the certificate or its key cannot be read, or do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise StartFailed(
            f"Cannot use the certificate {tls.cert} with the key {tls.key}: {error}. "
            "Set tls_cert and tls_key to two PEM files that belong together"
        ) from error


def warn_if_reachable_from_outside(
    sockets: Sequence[socket.socket], asks_for_keys: bool = False, is_encrypted: bool = False
) -> None:
    """Log a warning for each socket that is bound beyond loopback without protection."""
    for one in sockets:
        address = one.getsockname()[0]
        if ipaddress.ip_address(address).is_loopback:
            continue
        if asks_for_keys and not is_encrypted:
            logger.warning(
                "listening on %s without TLS: API keys and data can be read on the way. "
                "Set tls_cert and tls_key, or let an encrypting proxy stand before it",
                address,
            )
        if not asks_for_keys:
            logger.warning(
                "listening on %s, which other machines may reach, and no API key is asked for: "
                "whoever connects can read and delete everything. Set api_key, bind to "
                "127.0.0.1, or let only trusted machines through",
                address,
            )


def _grpc_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    try:
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
    except OSError as error:
        raise StartFailed(f"Cannot read {error.filename}: {_reason(error)}") from error
    return grpc.ssl_server_credentials([pair])


def authority(host: str, port: int) -> str:
    """Host and port as URLs and gRPC targets write them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind_all(host: str, port: int) -> Iterator[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    bound = False
    for family, kind, protocol, _, address in dict.fromkeys(found):
        one = socket.socket(family, kind, protocol)
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _let_go_of_silent_peers(one)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], port, *address[2:]))
        except OSError as error:
            one.close()
            # `localhost` often names ::1 on a machine that has no IPv6.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            missing = error
            continue
        port = one.getsockname()[1]
        bound = True
        yield one
    if missing and not bound:
        raise missing


def _let_go_of_silent_peers(one: socket.socket) -> None:
    """Have the system drop accepted connections whose peer is gone, or takes nothing."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_PEER_MS)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is in use"
    return (error.strerror or str(error)).lower()
