"""How is a snapshot fetched from a URL, without becoming a way into the network behind?

Off unless switched on, since whoever may restore could otherwise make this process send
requests from where it stands. Switched on for public addresses, each hop is resolved
here, its addresses are checked, and the connection goes to the address that was checked:
a name that changes its mind in between gains nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from headrace.engine.snapshot.store import check_room
from headrace.engine.storage.file_ops import FILE_OPS, storage_error, write_all
from headrace.model.errors import Forbidden, MalformedInput, WrongInput
from headrace.model.snapshots import SnapshotUrls

_REDIRECTS_MAX = 5
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 60.0
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_CHUNK_BYTES = 2**20
# How often the room on the disk is looked at again.
_ROOM_CHECK_BYTES = 64 * 2**20

# Public addresses that are not: Azure's metadata service, and NAT64, behind which any
# IPv4 address may stand.
_BLOCKED_NETWORKS = (
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def download_snapshot(url: str, api_key: str | None, target: Path, allowed: SnapshotUrls) -> None:
    """Fetch a file from `http:` or `https:`; durable only once it is restored.

    Args:
        url: where it is.
        api_key: sent as `api-key`, to the host of `url` alone.
        target: a new file, on whose disk there must be room; removed if this fails.
        allowed: what may be fetched.

    Raises:
        Forbidden: URLs are switched off, or this one leads to an address that is not allowed.
        WrongInput: nothing is to be had there.
        NoSpace, StorageFailed: the file cannot be written.
    """
    if allowed is SnapshotUrls.OFF:
        raise Forbidden(
            "Recovering snapshots from URLs is switched off: set snapshot_urls to `public` or "
            "`any`, or upload the snapshot"
        )
    headers = {} if api_key is None else {"api-key": api_key}
    first_host = urlsplit(url).netloc
    timeout = httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    with httpx.Client(timeout=timeout, trust_env=False) as client:
        for _ in range(_REDIRECTS_MAX + 1):
            is_first_host = urlsplit(url).netloc == first_host
            request = _request(client, url, headers if is_first_host else {}, allowed)
            try:
                response = client.send(request, stream=True)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise WrongInput(
                    f"Failed to download snapshot from {shown_url(url)}: {error}"
                ) from error
            try:
                if response.status_code not in _REDIRECT_STATUSES:
                    _save(response, url, target)
                    return
                url = urljoin(url, response.headers.get("location", ""))
            finally:
                response.close()
    raise WrongInput(f"Failed to download snapshot: more than {_REDIRECTS_MAX} redirects")


def is_public(address: _Address) -> bool:
    """Whether an address belongs to the public internet, whatever way it is written."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
    if any(address in network for network in _BLOCKED_NETWORKS):
        return False
    return address.is_global and not address.is_multicast


def shown_url(url: str) -> str:
    """A URL as answers and logs show it: without what may be a secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _request(
    client: httpx.Client, url: str, headers: dict[str, str], allowed: SnapshotUrls
) -> httpx.Request:
    """A request to the address that was checked, in the name of the host that was asked for."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise MalformedInput(f"Invalid snapshot URL: {error}") from None
    if parts.scheme not in _PORTS or not host:
        raise WrongInput(f"URL {shown_url(url)} with schema {parts.scheme} is not supported")
    address = _checked_address(host, port or _PORTS[parts.scheme], allowed)
    try:
        return client.build_request(
            "GET",
            httpx.URL(url).copy_with(host=str(address)),
            # What is on the disk must be what was sent, so that its checksum is known.
            headers={
                **headers,
                "host": parts.netloc.rpartition("@")[2],
                "accept-encoding": "identity",
            },
            extensions={"sni_hostname": host},
        )
    except httpx.InvalidURL as error:
        raise MalformedInput(f"Invalid snapshot URL: {error}") from None


def _checked_address(host: str, port: int, allowed: SnapshotUrls) -> _Address:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise WrongInput(f"Failed to download snapshot: {host}: {error}") from error
    addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    if allowed is SnapshotUrls.PUBLIC and not all(map(is_public, addresses)):
        raise Forbidden(f"Snapshots are not recovered from {host}: it is not a public address")
    return addresses[0]


def _save(response: httpx.Response, url: str, target: Path) -> None:
    if response.status_code != httpx.codes.OK:
        raise WrongInput(
            f"Failed to download snapshot from {shown_url(url)}: status - {response.status_code}"
        )
    declared = response.headers.get("content-length", "")
    check_room(target.parent, int(declared) if declared.isdecimal() else 0)
    try:
        fd = FILE_OPS.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            position = 0
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                if position // _ROOM_CHECK_BYTES != (position + len(chunk)) // _ROOM_CHECK_BYTES:
                    check_room(target.parent, 0)
                write_all(FILE_OPS, fd, chunk, position)
                position += len(chunk)
        finally:
            FILE_OPS.close(fd)
    except httpx.HTTPError as error:
        raise WrongInput(f"Failed to download snapshot from {shown_url(url)}: {error}") from error
    except OSError as error:
        raise storage_error(error, f"writing {target}") from error
