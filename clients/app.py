"""The ClientApp for stock SuperNodes: hands each message's payload to the agent, as the resident node does.

Slower, and here the FAB's code does run at the member; see the documents on stock Flower. The agent's
socket is named by the node config `work-socket` or by HANSA_WORK_SOCKET.
"""

from __future__ import annotations

import os

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from hansa.contract.content import unwrap, wrap
from hansa.contract.errors import InputError
from hansa.contract.frames import WorkSocket

app = ClientApp()

_ANSWER_S = 3600.0


@app.train()
@app.evaluate()
@app.query()
def carry(message: Message, context: Context) -> Message:
    """Ask the agent; an exception here is sent by Flower as an error message."""
    path = context.node_config.get("work-socket") or os.environ.get("HANSA_WORK_SOCKET")
    if not isinstance(path, str) or not path:
        raise InputError("name the agent's socket: --node-config 'work-socket=\"/path/work.sock\"'")
    return Message(wrap(WorkSocket(path).ask(unwrap(message.content), _ANSWER_S)), reply_to=message)
