"""A node's connection to the SuperLink, on Flower's own HTTP client and node authentication.

Flower's `http_request_response` ends the process when the SuperLink forgets the node, and cannot be
interrupted. Here every call is one attempt with a typed failure, and who calls decides what follows.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from hansa.contract.errors import ConnectionFailed, HansaError, InputError, MessageError
from hansa.contract.inlined import add_inlined, read_inlined

HEARTBEAT_S = HEARTBEAT_DEFAULT_INTERVAL
# More than this travels object by object, so that neither side holds one huge body.
INLINE_BYTES = 64 << 20
_OBJECT_PATIENCE_S = 60.0

T = TypeVar("T")


class NodeForgottenError(HansaError):
    """The server does not know this node id any more (or the clocks differ): activate again."""


class KeyNotRegisteredError(InputError):
    """The server does not admit this node's key."""


class UntrustedServerError(InputError):
    """The server's certificate does not stand before the CA."""


class RunOverError(HansaError):
    """The run a message belongs to has ended; nobody waits for the answer."""


@dataclass(frozen=True)
class Pulled:
    """A message without its content, and the contents of all its objects by id."""

    header: Message
    contents: dict[str, bytes]

    def message(self) -> Message:
        """The whole message; raises `MessageError` when its objects do not make one."""
        message_id = self.header.metadata.message_id
        try:
            # Inflating asks each object for its id again and again; once is enough.
            with no_object_id_recompute():
                message = inflate_object_from_contents(message_id, dict(self.contents))
        except Exception as error:
            raise MessageError(f"message {message_id}: cannot be read: {error!r}") from error
        if not isinstance(message, Message):
            raise MessageError(f"message {message_id}: is a {type(message).__name__}")
        message.metadata.__dict__["_message_id"] = message_id
        return message


class FleetConnection:
    """One member's way to the Fleet API; calls may come from several threads.

    Parameters
    ----------
    server : HOST:PORT of the members' listener
    private_key : the node's EC key
    ca : PEM of the CA that signed the server's certificate; None trusts the system's
    insecure : plain HTTP, to try things out
    """

    def __init__(
        self,
        server: str,
        private_key: ec.EllipticCurvePrivateKey,
        *,
        ca: bytes | None = None,
        insecure: bool = False,
    ) -> None:
        self.server = server
        self._key_bytes = public_key_to_bytes(private_key.public_key())
        self._node = Node()
        try:
            self._client = FleetHttpClient.from_server_address(
                server,
                insecure,
                None if insecure else ca,
                interceptors=[
                    RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                    NodeAuthHttpInterceptor(private_key, private_key.public_key()),
                ],
            )
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise InputError(f"the CA file is not a PEM certificate: {error}") from error

    def activate(self) -> int:
        """Come online; returns the node id, which holds until the SuperLink restarts."""
        request = ActivateNodeRequest(public_key=self._key_bytes, heartbeat_interval=HEARTBEAT_S)
        answer = self._call(self._client.ActivateNode, request)
        self._node = Node(node_id=answer.node_id)
        return int(answer.node_id)

    def deactivate(self) -> None:
        """Say goodbye; best effort."""
        if self._node.node_id:
            self._call(self._client.DeactivateNode, DeactivateNodeRequest(node_id=self._node.node_id))

    def heartbeat(self) -> None:
        """Stay online."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_S)
        if not self._call(self._client.SendNodeHeartbeat, request).success:
            raise NodeForgottenError(f"{self.server}: the heartbeat was not accepted")

    def pull(self) -> Pulled | None:
        """The next message, or None. The lane holds this call until there is one, 15 s at most."""
        request = PullMessagesRequest(node=self._node)
        add_inlined(request, limit=INLINE_BYTES)
        answer = self._call(self._client.PullMessages, request)
        if not answer.messages_list:
            return None
        header = message_from_proto(answer.messages_list[0])
        wanted = [it.object_id for it in iterate_object_tree(answer.message_object_trees[0])]
        contents = {get_object_id(it): it for it in read_inlined(answer).objects}
        if any(it not in contents for it in wanted):
            contents = {it: self._pull_object(header.metadata.run_id, it) for it in wanted}
            self._call(
                self._client.ConfirmMessageReceived,
                ConfirmMessageReceivedRequest(
                    node=self._node,
                    run_id=header.metadata.run_id,
                    message_object_id=header.metadata.message_id,
                ),
            )
        return Pulled(header, contents)

    def push(self, reply: Message, seconds: float) -> None:
        """Send a reply and its objects; `seconds` is how long the answer took."""
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            tree = get_object_tree(reply)
            objects = {key: it.deflate() for key, it in get_all_nested_objects(reply).items()}
        request = PushMessagesRequest(
            node=self._node,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree],
            clientapp_runtime_list=[seconds],
        )
        if sum(map(len, objects.values())) <= INLINE_BYTES:
            add_inlined(request, objects.values())
        answer = self._call(self._client.PushMessages, request)
        for object_id in answer.objects_to_push:
            self._call(
                self._client.PushObject,
                PushObjectRequest(
                    node=self._node,
                    run_id=reply.metadata.run_id,
                    session_id=answer.session_id,
                    object_id=object_id,
                    object_content=objects[object_id],
                ),
            )

    def close(self) -> None:
        """Drop the connections; a call in flight fails."""
        self._client.close()

    def _pull_object(self, run_id: int, object_id: str) -> bytes:
        request = PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        give_up = time.monotonic() + _OBJECT_PATIENCE_S
        pause = 0.05
        while True:
            answer = self._call(self._client.PullObject, request)
            if answer.object_available:
                return bytes(answer.object_content)
            if not answer.object_found or time.monotonic() > give_up:
                raise MessageError(f"object {object_id} of a message never arrived")
            # A stock SuperLink hands messages out before their objects are there.
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _call(self, method: Callable[[Any], T], request: Any) -> T:
        with self._typed_failures():
            return method(request)

    @contextmanager
    def _typed_failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status == 401:
                raise NodeForgottenError(
                    f"{self.server}: does not accept this node's signature (a restarted server, or clocks"
                    " that differ by minutes)"
                ) from None
            if status == 403:
                raise RunOverError(f"{self.server}: the run is over") from None
            if status == 412:
                raise KeyNotRegisteredError(
                    f"{self.server}: this node's key is not registered there; the charter of the server"
                    " must name it (a stock SuperLink also says this for a minute after a crash)"
                ) from None
            raise ConnectionFailed(f"{self.server}: answered {status}") from error
        except httpx.HTTPError as error:
            if (reason := _certificate_problem(error)) is not None:
                raise UntrustedServerError(
                    f"{self.server}: its certificate is not trusted: {reason}; give the CA that signed it"
                ) from error
            raise ConnectionFailed(
                f"{self.server}: cannot be reached: {error or type(error).__name__}"
            ) from error
        except ValueError as error:
            raise ConnectionFailed(f"{self.server}: does not speak Flower's protocol: {error}") from error


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The node's key, an EC key in OpenSSH or PEM format; raises `InputError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; it is the node's private key") from error
    if os.stat(path).st_mode & 0o077:
        raise InputError(f"{path}: others can read this private key; chmod 600 it")
    for load in (serialization.load_ssh_private_key, serialization.load_pem_private_key):
        try:
            key = load(data, password=None)
        except (ValueError, TypeError):
            continue
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    raise InputError(f"{path}: expected an EC private key without passphrase (P-256, OpenSSH or PEM)")


def _certificate_problem(error: BaseException) -> str | None:
    """What is wrong with the server's certificate, if that is what is wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message or str(cause)
        cause = cause.__cause__ or cause.__context__
    return None
