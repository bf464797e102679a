"""The resident node: one process that carries bytes between the SuperLink and the agent.

It takes Fleet messages, asks the agent over work.sock, and sends what it says. It holds no data, imports
neither torch nor a model, and fetches no FAB: no code from the server runs at a member.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hansa.contract.errors import ConnectionFailed, HansaError, InputError, MessageError
from hansa.contract.exposing import expose
from hansa.contract.exposition import Meter
from hansa.contract.frames import WorkSocket
from hansa.contract.logs import add_log_options, places_of, say_failure, start_logging
from hansa.contract.process_figures import process_meter

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from hansa.clients.fleet import (
    HEARTBEAT_S,
    FleetConnection,
    KeyNotRegisteredError,
    NodeForgottenError,
    Pulled,
    RunOverError,
    UntrustedServerError,
    load_private_key,
)
from hansa.clients.node_figures import BYTES, MESSAGES, ONLINE, ONLINES, SECONDS
from hansa.contract.content import unwrap, wrap

log = logging.getLogger("hansa.node")

# answer(payload, seconds it may take) -> payload
Answer = Callable[[bytes, float], bytes]

_CONCURRENT = 4
_BACK_OFF_S = (0.2, 15.0)
# Between empty pulls of a server that does not hold them.
_IDLE_S = (0.2, 2.0)
_GOODBYE_S = 2.0
_PUSH_TRIES = 4


class Node:
    """Serves messages until stopped; outlives the server, its restarts, and the agent's.

    Parameters
    ----------
    connection : the way to the server
    answer : asked for every message; may raise, which is answered with an error message
    answer_s : longest time one answer may take, seconds; a message's own deadline also holds
    meter : counts in it
    """

    def __init__(
        self,
        connection: FleetConnection,
        answer: Answer,
        *,
        answer_s: float = 3600.0,
        meter: Meter | None = None,
    ) -> None:
        self._meter = Meter() if meter is None else meter
        self._meter.declare(MESSAGES, SECONDS, BYTES, ONLINE, ONLINES)
        self._connection = connection
        self._answer = answer
        self._answer_s = answer_s
        self._stop = threading.Event()
        self._failure: HansaError | None = None
        self._beat_now = threading.Event()
        # A place is taken before a message is pulled: what nobody can serve yet stays at the server.
        self._places = threading.BoundedSemaphore(_CONCURRENT)

    def run(self) -> None:
        """Serve until `stop`; raises `InputError` when the node's key or the server's certificate is wrong."""
        threading.Thread(target=self._guarded, args=(self._serve,), name="pull", daemon=True).start()
        threading.Thread(
            target=self._guarded, args=(self._keep_alive,), name="heartbeat", daemon=True
        ).start()
        self._stop.wait()
        goodbye = threading.Thread(target=self._say_goodbye, daemon=True)
        goodbye.start()
        goodbye.join(_GOODBYE_S)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run` now: a held pull is abandoned, and the server keeps the message it would have got."""
        self._stop.set()
        self._beat_now.set()

    def check(self) -> int:
        """Come online once and leave again; returns the node id or raises what stands in the way."""
        node_id = self._connection.activate()
        self._connection.deactivate()
        return node_id

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except HansaError as error:
            self._failure = error
        except BaseException as error:
            log.exception("the node stops")
            self._failure = HansaError(f"the node stopped: {error!r}")
        finally:
            self.stop()

    def _serve(self) -> None:
        known = False
        while not self._stop.is_set():
            if not self._activate(fatal=not known):
                return
            known = True
            self._pull_until_forgotten()

    def _activate(self, *, fatal: bool) -> bool:
        """Come online, however long it takes. At the first start a wrong key or certificate is fatal."""
        said: str | None = None
        for pause in self._back_off():
            try:
                node_id = self._connection.activate()
            except (KeyNotRegisteredError, UntrustedServerError) as error:
                if fatal:
                    raise
                problem = str(error)
            except HansaError as error:
                problem = str(error)
            else:
                log.info("online at %s as node %d", self._connection.server, node_id)
                self._meter.add(ONLINES)
                self._meter.set(ONLINE, to=1)
                self._beat_now.set()
                return True
            if problem != said:
                log.warning("%s; trying again until it works", problem)
                said = problem
            self._stop.wait(pause)
        return False

    def _pull_until_forgotten(self) -> None:
        idle_s = _IDLE_S[0]
        pauses = self._back_off()
        lost = False
        while not self._stop.is_set():
            if not self._places.acquire(timeout=1.0):
                continue
            started = time.monotonic()
            try:
                pulled = self._connection.pull()
            except (RunOverError, MessageError) as error:
                self._places.release()
                log.info("a message was dropped: %s", error)
                continue
            except HansaError as error:
                self._places.release()
                if isinstance(error, NodeForgottenError):
                    log.info("the server does not know this node any more; coming online again")
                    return
                if not lost:
                    log.warning("%s; trying again until it works", error)
                lost = True
                self._meter.set(ONLINE, to=0)
                self._stop.wait(next(pauses, _BACK_OFF_S[1]))
                continue
            if lost:
                log.info("connected again")
                lost, pauses = False, self._back_off()
                self._meter.set(ONLINE, to=1)
                self._beat_now.set()
            if pulled is not None:
                idle_s = _IDLE_S[0]
                threading.Thread(target=self._attend, args=(pulled,), daemon=True).start()
                continue
            self._places.release()
            if time.monotonic() - started < _IDLE_S[0]:
                self._stop.wait(idle_s)
                idle_s = min(1.5 * idle_s, _IDLE_S[1])

    def _attend(self, pulled: Pulled) -> None:
        try:
            started = time.monotonic()
            left = _seconds_left(pulled)
            if left <= 0:
                # Nobody could take the reply, and the agent would pay for it.
                self._meter.add(MESSAGES, "expired")
                log.warning("a message expired %.0f s ago and is dropped; do the clocks agree?", -left)
                return
            reply = self._reply_to(pulled, left)
            self._push(reply, time.monotonic() - started)
        except Exception as error:
            log.error("a message could not be answered: %s", places_of(error))
        finally:
            self._places.release()

    def _reply_to(self, pulled: Pulled, left: float) -> Message:
        try:
            payload = unwrap(pulled.message().content)
            began = time.monotonic()
            answer = self._answer(payload, min(left, self._answer_s))
            self._meter.observe(SECONDS, time.monotonic() - began)
            self._meter.add(BYTES, "down", by=len(payload))
            self._meter.add(BYTES, "up", by=len(answer))
            self._meter.add(MESSAGES, "answered")
            return Message(wrap(answer), reply_to=pulled.header)
        except ConnectionFailed as error:
            log.warning("%s", error)
            outcome, reason = "agent unavailable", f"agent-unavailable: {error}"
        except MessageError as error:
            log.warning("%s", error)
            outcome, reason = "malformed", f"malformed: {error}"
        except Exception as error:
            log.error("the answer failed: %s", places_of(error))
            outcome, reason = "failed", f"node-failed: {type(error).__name__}"
        self._meter.add(MESSAGES, outcome)
        return Message(
            Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=pulled.header
        )

    def _push(self, reply: Message, seconds: float) -> None:
        for tries, pause in enumerate(self._back_off(), start=1):
            try:
                return self._connection.push(reply, seconds)
            except (RunOverError, NodeForgottenError) as error:
                # Nobody waits for it: the server asks again, and the agent keeps its answers.
                log.info("an answer was not needed any more: %s", error)
                return None
            except HansaError as error:
                if tries == _PUSH_TRIES:
                    self._meter.add(MESSAGES, "lost")
                    log.warning("an answer was lost: %s", error)
                    return None
            self._stop.wait(pause)
        return None

    def _keep_alive(self) -> None:
        while not self._stop.is_set():
            # Well inside the interval that was promised, and not in step with the other nodes.
            self._beat_now.wait(HEARTBEAT_S * random.uniform(0.6, 0.9))
            self._beat_now.clear()
            if self._stop.is_set():
                return
            try:
                self._connection.heartbeat()
            except HansaError as error:
                log.debug("heartbeat: %s", error)

    def _say_goodbye(self) -> None:
        try:
            self._connection.deactivate()
        except HansaError as error:
            log.debug("goodbye: %s", error)

    def _back_off(self) -> Iterator[float]:
        """Pauses, growing, with jitter; ends when the node stops."""
        pause, longest = _BACK_OFF_S
        while not self._stop.is_set():
            yield pause * random.uniform(0.7, 1.0)
            pause = min(2 * pause, longest)


def _seconds_left(pulled: Pulled) -> float:
    sent = pulled.header.metadata
    return sent.created_at + sent.ttl - time.time()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a node until SIGTERM or SIGINT. Returns 0, or the error's exit code after one line on stderr.

    2: this node's key, its files or the server's certificate are wrong; trying again would not help.
    """
    options = _parse(argv)
    start_logging("node", options.log_level, options.log_format)
    if options.proxy:
        os.environ["HTTPS_PROXY"] = os.environ["HTTP_PROXY"] = options.proxy
    try:
        connection = FleetConnection(
            options.server,
            load_private_key(options.key),
            ca=_read_ca(options.ca),
            insecure=options.insecure,
        )
        meter = process_meter("node", member=options.member)
        ask = WorkSocket(options.work_socket).ask
        node = Node(connection, ask, answer_s=options.answer_seconds, meter=meter)
        if options.once_check:
            print(f"{options.server} admits this node as {node.check()}")
            return 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: node.stop())
        exposure = expose(meter, options.metrics)
        try:
            node.run()
        finally:
            if exposure is not None:
                exposure.close()
    except HansaError as error:
        say_failure("node", error, error.exit_code)
        return error.exit_code
    return 0


def _read_ca(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; it is the CA that signed the server") from error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hansa node", description=__doc__)
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT", help="the members' listener")
    add("--key", type=Path, required=True, help="this node's private key (EC, OpenSSH or PEM)")
    add("--work-socket", type=Path, required=True, help="the agent's work.sock")
    add("--ca", type=Path, help="PEM of the CA that signed the server; the system's CAs without")
    add("--insecure", action="store_true", help="no TLS; to try things out only")
    add("--proxy", help="URL of the HTTPS proxy; one with a password belongs in HTTPS_PROXY")
    add("--answer-seconds", type=float, default=3600.0, help="longest time the agent may take")
    add("--once-check", action="store_true", help="come online once, say so, and exit")
    add("--metrics", metavar="WHERE", help="figures: HOST:PORT, or a file that ends in .prom; default: none")
    add("--member", default="", metavar="NAME", help="whose node it is: a label of figures in a file")
    add_log_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    # Threads that wait for the server or the agent must not delay the exit.
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)
