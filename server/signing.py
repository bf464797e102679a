"""The operator's signature over HTTP: what a ServerApp has instead of the key."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.keys import from_text, to_text
from hansa.server.config import ServerConfig
from hansa.server.tokens import read_tokens

log = logging.getLogger("hansa.signing")

PATIENCE_S = 600.0
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0
_TIMEOUT_S = 10.0
_NOT_NOW = (502, 503, 504)


class ControlOperator:
    """`strategies.ports.Operator` over control's API; outlasts a control that is down for a while.

    Parameters
    ----------
    url : control, e.g. http://127.0.0.1:9480
    token : the one that allows signing
    patience : seconds for which a control that does not answer is asked again
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._patience = patience
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_S,
            transport=transport,
            # Control is on the consortium's own network: never through a proxy of the environment.
            trust_env=False,
        )

    def sign_headers(self, job: str, headers: Sequence[bytes]) -> list[bytes]:
        """One 64-byte signature for each header.

        Raises
        ------
        HansaError : control refuses, with its reason
        ConnectionFailed : control did not answer for as long as the patience lasts
        """
        answer = self._ask(
            "POST", "/v1/sign", {"job": job, "headers": [to_text(header) for header in headers]}
        )
        return [from_text(text) for text in answer["signatures"]]

    def default_job(self) -> str:
        """The job that waits longest, for a run that names none; raises `HansaError` where none waits."""
        return str(self._ask("GET", "/v1/next-job", None)["job"])

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, method: str, path: str, body: Any) -> Any:
        began, wait = time.monotonic(), _FIRST_WAIT_S
        while True:
            problem = ""
            try:
                response = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            else:
                if response.is_success:
                    return response.json()
                if response.status_code not in _NOT_NOW:
                    raise HansaError(f"control does not sign: {_reason(response)}")
                problem = _reason(response)
            waited = time.monotonic() - began
            if waited + wait > self._patience:
                raise ConnectionFailed(
                    f"control at {self._url} has not answered for {waited:.0f} s: {problem}"
                )
            if wait == _FIRST_WAIT_S:
                log.warning("control at %s does not answer (%s); asking again", self._url, problem)
            self._sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)


def sign_token(path: Path, config: ServerConfig) -> str:
    """The token for signing, from the tokens file beside the `server.toml` at `path`."""
    tokens = path.parent / config.tokens
    token = read_tokens(tokens).get("sign")
    if token is None:
        raise InputError(
            f"{tokens}: field 'sign' is missing; the ServerApp asks control for signatures with it"
        )
    return token


def _reason(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {response.status_code}"
