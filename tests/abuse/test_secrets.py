"""Are keys, tokens and credentials in no log line and in no answer?"""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import grpc
import httpx
import jwt
import pytest
from qdrant_client import grpc as qdrant

from headrace.server.options import AuthOptions
from tests.headrace_process import HeadraceProcess

KEYS = {name: f"{name}-{'s3cr3t' * 8}" for name in ("api_key", "alt_api_key", "read_only_api_key")}
URL_PASSWORD = "passw0rd-of-a-url"
URL_TOKEN = "t0ken-of-a-url"
PEER_KEY = "key-of-another-server-0123456789"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged_or_answered(tmp_path: Path, log_format: str) -> None:
    token = jwt.encode({"access": "r"}, KEYS["api_key"], algorithm="HS256")
    secrets = [*KEYS.values(), token, token.rpartition(".")[2], URL_PASSWORD, URL_TOKEN, PEER_KEY]
    environment = {f"HEADRACE_{name.upper()}": value for name, value in KEYS.items()}
    arguments = ("serve", "--data", str(tmp_path / "data"), "--http-port", "0", "--grpc-port", "0")
    debug = ("--log-level", "debug", "--log-format", log_format, "--jwt-rbac")
    shown: list[str] = []
    process = HeadraceProcess(*arguments, *debug, "--snapshot-urls", "any", environment=environment)
    with process:
        ready = process.wait_until_serving()
        shown.append(ready[0])
        with httpx.Client(base_url=ready["rest"], timeout=30) as http:
            shown.extend(_rest_answers(http, token))
        shown.extend(_grpc_answers(ready["grpc"]))
        process.stop(signal.SIGTERM)
        shown.append(process.all_stderr())
    assert "slow request" not in shown[-1] or "request_id" in shown[-1]
    assert "request" in shown[-1]
    for secret in secrets:
        for text in shown:
            assert secret not in text


def _rest_answers(http: httpx.Client, token: str) -> list[str]:
    key = {"api-key": KEYS["api_key"]}
    bearers = [{"authorization": f"Bearer {one}"} for one in (token, token[:-4], *KEYS.values())]
    location = f"http://user:{URL_PASSWORD}@127.0.0.1:9/x.snapshot?token={URL_TOKEN}"
    recovery = {"location": location, "api_key": PEER_KEY}
    paths = [
        *("/", "/metrics", "/stacktrace", "/logger", "/debugger", "/issues", "/quotas"),
        *("/telemetry?details_level=10", "/profiler/slow_requests?limit=100", "/collections"),
    ]
    answers = [http.get(path, headers=key) for path in paths]
    answers += [http.get("/collections", headers=one) for one in (*bearers, {"api-key": token})]
    answers += [http.get("/collections", headers={"api-key": KEYS["api_key"] + "x"})]
    for wait in ("true", "false"):
        path = f"/collections/c/snapshots/recover?wait={wait}"
        answers.append(http.put(path, json=recovery, headers=key))
    for wrong in ({**recovery, "checksum": "x"}, {**recovery, "location": f"ftp{location[4:]}"}):
        answers.append(http.put("/collections/c/snapshots/recover", json=wrong, headers=key))
    answers.append(http.get("/profiler/slow_requests?limit=100", headers=key))
    return [answer.text + str(answer.headers) for answer in answers]


def _grpc_answers(address: str) -> list[str]:
    told = []
    with grpc.insecure_channel(address) as channel:
        list_collections = qdrant.CollectionsStub(channel).List  # type: ignore[no-untyped-call]
        for key in (*KEYS.values(), KEYS["api_key"] + "x"):
            try:
                metadata = (("api-key", key),)
                told.append(
                    str(list_collections(qdrant.ListCollectionsRequest(), metadata=metadata))
                )
            except grpc.RpcError as error:
                told.append(f"{error.code()} {error.details()} {error.trailing_metadata()}")
    return told


def test_options_do_not_show_their_keys(caplog: pytest.LogCaptureFixture) -> None:
    options = AuthOptions(KEYS["api_key"], KEYS["alt_api_key"], KEYS["read_only_api_key"])
    with caplog.at_level(logging.INFO):
        logging.getLogger("headrace").info("%s %r", options, [options])
    for secret in KEYS.values():
        assert secret not in caplog.text
