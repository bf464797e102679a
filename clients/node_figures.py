"""What a node shows its organisation: messages, seconds, bytes; nothing of what is in them."""

from __future__ import annotations

from hansa.contract.exposition import SECONDS as BUCKETS
from hansa.contract.exposition import Family

MESSAGES = Family("hansa_node_messages_total", "counter", "Messages by what became of them.", ("outcome",))
SECONDS = Family(
    "hansa_node_answer_seconds", "histogram", "From a message to the agent's answer.", (), 1, BUCKETS
)
BYTES = Family(
    "hansa_node_bytes_total", "counter", "Bytes to and from the agent; what leaves is `up`.", ("direction",)
)
ONLINE = Family("hansa_node_online", "gauge", "1 while the server answers this node.")
ONLINES = Family("hansa_node_activations_total", "counter", "Times that it came online.")
