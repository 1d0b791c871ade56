"""Who asks, and what may they do?

Knows no protocol: a front hands in what a request's `api-key` and `authorization` headers
or metadata say, and gets an `Access`, which it asks about each collection by its decoded
name. Rules and texts follow Qdrant's: an API key, a read-only one, an alternative one
while keys are exchanged, and JSON Web Tokens signed with a key.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any

import jwt
import msgspec

from headrace.model.errors import ErrorCode, Forbidden, HeadraceError, NotFound
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.payload_path import parse_payload_path
from headrace.model.queries import GroupLookup, Prefetch, Query
from headrace.server.options import AuthOptions
from headrace.service.service import Service

# How far the clocks of who signs tokens and who checks them may differ.
_TOKEN_LEEWAY_S = 30

_BEARER = "bearer "


class Unauthenticated(HeadraceError):
    """The caller did not say who it is, or nobody knows it. REST tells it as plain text."""

    code = ErrorCode.UNAUTHENTICATED


class TokenRefused(HeadraceError):
    """A token that is known but does not hold. REST tells it as plain text."""

    code = ErrorCode.FORBIDDEN


class Need(Enum):
    """What a call does, as far as rights go.

    Attributes:
        NOTHING: open to anyone, authenticated or not.
        IDENTITY: open to any caller that is known.
        GLOBAL_READ: tells of the whole node.
        MANAGE: makes and removes collections, or changes the node.
        READ, WRITE: concerns the points of one collection.
        READ_EXTRAS, WRITE_EXTRAS: concerns more of it than points: indexes, info.
    """

    NOTHING = auto()
    IDENTITY = auto()
    GLOBAL_READ = auto()
    MANAGE = auto()
    READ = auto()
    WRITE = auto()
    READ_EXTRAS = auto()
    WRITE_EXTRAS = auto()


class CollectionRight(StrEnum):
    """What a token allows on one collection."""

    READ = "r"
    READ_WRITE = "rw"
    POINTS_READ_WRITE = "prw"


class _GlobalRight(StrEnum):
    """What a token allows everywhere."""

    READ = "r"
    MANAGE = "m"


class _CollectionClaim(msgspec.Struct, frozen=True):
    collection: str
    access: CollectionRight


class _MatchClaim(msgspec.Struct, frozen=True):
    key: str
    value: str | int | bool


class ValueExists(msgspec.Struct, frozen=True):
    """A token holds only while some point of a collection has these payload values."""

    collection: str
    matches: list[_MatchClaim]


class _Claims(msgspec.Struct, frozen=True):
    """The claims that mean something here; `exp` is checked by the decoder."""

    access: _GlobalRight | list[_CollectionClaim] = _GlobalRight.MANAGE
    value_exists: ValueExists | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may do.

    Attributes:
        may_read_all: whether everything may be read.
        may_manage: whether anything may be done.
        collections: rights by collection name, where neither holds.
        value_exists: what must be stored for the rights to hold; see `Authenticator.confirm`.
    """

    may_read_all: bool = False
    may_manage: bool = False
    collections: Mapping[str, CollectionRight] = field(default_factory=dict)
    value_exists: ValueExists | None = None

    def check(self, need: Need, collection_name: str | None = None) -> None:
        """Let a call pass.

        Args:
            need: what it does.
            collection_name: decoded, as the caller spelled it; None if it is about none.

        Raises:
            Forbidden: this caller may not.
        """
        if self.may_manage or need in (Need.NOTHING, Need.IDENTITY):
            return
        if need is Need.MANAGE:
            raise Forbidden("Global manage access is required")
        if need is Need.GLOBAL_READ or collection_name is None:
            if not self.may_read_all:
                raise Forbidden("Global access is required")
        elif self.may_read_all:
            if need in (Need.WRITE, Need.WRITE_EXTRAS):
                raise Forbidden("Global manage access is required")
        else:
            self._check_collection(need, collection_name)

    def sees(self, collection_name: str) -> bool:
        """Whether a list of collections shows this one."""
        return self.may_manage or self.may_read_all or collection_name in self.collections

    def check_lookups(self, query: Query, with_lookup: GroupLookup | None = None) -> None:
        """Let a query pass that reads other collections.

        Raises:
            Forbidden: this caller may not read one of them.
        """
        if self.may_manage or self.may_read_all:
            return
        for name in _lookup_names(query):
            self.check(Need.READ, name)
        if with_lookup is not None:
            self.check(Need.READ, with_lookup.collection_name)

    def _check_collection(self, need: Need, collection_name: str) -> None:
        right = self.collections.get(collection_name)
        if right is None:
            raise Forbidden(f"Access to collection {collection_name} is required")
        if need in (Need.WRITE, Need.WRITE_EXTRAS) and right is CollectionRight.READ:
            raise Forbidden(f"Write access to collection {collection_name} is required")
        if (
            need in (Need.READ_EXTRAS, Need.WRITE_EXTRAS)
            and right is CollectionRight.POINTS_READ_WRITE
        ):
            raise Forbidden(f"Only points access is allowed for collection {collection_name}")


FULL_ACCESS = Access(may_read_all=True, may_manage=True)
_READ_ALL_ACCESS = Access(may_read_all=True)


class Authenticator:
    """Tells callers apart; thread-safe.

    Args:
        options: the keys; without any, every caller may do everything.
    """

    def __init__(self, options: AuthOptions | None = None) -> None:
        options = options or AuthOptions()
        self._manage_keys = [key for key in (options.api_key, options.alt_api_key) if key]
        self._read_keys = [key for key in (options.read_only_api_key,) if key]
        self._takes_tokens = options.jwt_rbac and bool(self._manage_keys)

    @property
    def is_on(self) -> bool:
        """Whether callers must say who they are."""
        return bool(self._manage_keys or self._read_keys)

    @property
    def takes_tokens(self) -> bool:
        """Whether JSON Web Tokens are taken."""
        return self._takes_tokens

    def authenticate(self, api_key: str | None, authorization: str | None) -> Access:
        """What the caller may do that shows these; an API key wins over a bearer token.

        Args:
            api_key: the `api-key` header.
            authorization: the `authorization` header.

        Raises:
            Unauthenticated: nothing is shown, or nothing that is known.
            TokenRefused: a token has expired or is not signed with a key.
        """
        if not self.is_on:
            return FULL_ACCESS
        shown = api_key if api_key is not None else _bearer_token(authorization)
        if shown is None:
            raise Unauthenticated("Must provide an API key or an Authorization bearer token")
        if _is_one_of(shown, self._manage_keys):
            return FULL_ACCESS
        if _is_one_of(shown, self._read_keys):
            return _READ_ALL_ACCESS
        claims = self._claims(shown) if self._takes_tokens else None
        if claims is None:
            raise Unauthenticated("Invalid API key or JWT")
        return _token_access(claims)

    def confirm(self, access: Access, service: Service) -> None:
        """Check what a token wants to be stored; may take as long as a search.

        Raises:
            TokenRefused: it is not.
        """
        wanted = access.value_exists
        if wanted is None:
            return
        conditions = tuple(
            FieldCondition(str(parse_payload_path(match.key)), match=MatchValue(match.value))
            for match in wanted.matches
        )
        try:
            found = service.has_points(wanted.collection, Filter(must=conditions))
        except NotFound:
            found = False
        if not found:
            raise TokenRefused("Invalid JWT, stateful validation failed")

    def _claims(self, token: str) -> _Claims | None:
        """The claims of a token; None if it is none."""
        refusal = ""
        for key in self._manage_keys:
            try:
                payload = jwt.decode(
                    token,
                    key,
                    algorithms=["HS256"],
                    leeway=_TOKEN_LEEWAY_S,
                    options={"verify_aud": False, "verify_iat": False},
                )
            except (jwt.ExpiredSignatureError, jwt.InvalidSignatureError) as error:
                refusal = f"Invalid JWT token: {error}"
            except jwt.PyJWTError:
                return None
            else:
                return _checked_claims(payload)
        raise TokenRefused(refusal)


def _checked_claims(payload: Any) -> _Claims:
    try:
        claims = msgspec.convert(payload, _Claims)
        if isinstance(payload.get("access"), list) and any(
            isinstance(one, dict) and one.get("payload") is not None for one in payload["access"]
        ):
            raise Unauthenticated("Invalid JWT: `payload` in `access` is not supported any more")
        for match in claims.value_exists.matches if claims.value_exists else ():
            parse_payload_path(match.key)
    except msgspec.ValidationError as error:
        raise Unauthenticated(f"Invalid JWT: {error}") from None
    return claims


def _token_access(claims: _Claims) -> Access:
    match claims.access:
        case _GlobalRight.MANAGE:
            return Access(True, True, {}, claims.value_exists)
        case _GlobalRight.READ:
            return Access(True, False, {}, claims.value_exists)
        case rights:
            by_name = {right.collection: right.access for right in rights}
            return Access(False, False, by_name, claims.value_exists)


def _bearer_token(authorization: str | None) -> str | None:
    if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
        return None
    return authorization[len(_BEARER) :].strip()


def _is_one_of(shown: str, keys: list[str]) -> bool:
    """Compares with every key whatever comes of it, so that time tells nothing."""
    matches = [hmac.compare_digest(shown.encode(), key.encode()) for key in keys]
    return any(matches)


def _lookup_names(query: Query) -> Iterator[str]:
    waiting: list[Query | Prefetch] = [query]
    while waiting:
        stage = waiting.pop()
        if stage.lookup_from is not None:
            yield stage.lookup_from.collection_name
        waiting.extend(stage.prefetch)
