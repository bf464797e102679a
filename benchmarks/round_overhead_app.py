"""The apps that `round_overhead.py` submits: rounds of empty work, timed by the ServerApp itself."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

server = ServerApp()
client = ClientApp()


@client.train()
def nothing(message: Message, context: Context) -> Message:
    """An empty answer."""
    return Message(RecordDict({"r": ConfigRecord({"payload": b"x"})}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run `rounds` rounds the stock way or over an exchange; write their times to `result`."""
    config = context.run_config
    folder = Path(str(config["result"]))
    (folder / "first-line").write_text(repr(time.time()))
    members, rounds = int(config["members"]), int(config["rounds"])
    run_round = _stock_round if config["kind"] == "stock" else _exchange_round(grid, int(config["bytes"]))
    while len(nodes := list(grid.get_node_ids())) < members:
        time.sleep(0.05)
    run_round(grid, nodes)  # connections, caches, lazy imports
    (folder / "started").touch()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        replies = run_round(grid, nodes)
        times.append(time.perf_counter() - began)
        if replies != members:
            raise RuntimeError(f"{replies} of {members} replies")
    hidden = folder / ".result"
    hidden.write_text(json.dumps(times))
    os.replace(hidden, folder / "result.json")


def _stock_round(grid: Grid, nodes: list[int]) -> int:
    content = RecordDict({"r": ConfigRecord({"payload": b"x"})})
    messages = [Message(content, node, "train") for node in nodes]
    return len([it for it in grid.send_and_receive(messages, timeout=120) if it.has_content()])


def _exchange_round(grid: Grid, size: int) -> Any:
    from hansa.strategies.exchange import Exchange

    exchange = Exchange(grid)

    def run_round(_grid: Grid, nodes: list[int]) -> int:
        payload = os.urandom(size)
        replies = dict(exchange.ask(dict.fromkeys(nodes, payload), 60.0))
        return sum(it == payload for it in replies.values())

    return run_round
