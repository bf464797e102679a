"""The direct lane: Flower's own SuperLink application with its hot paths taken straight to the handlers.

`Lane` wraps the application that `flwr.superlink.main.create_app` builds. For the requests a round
consists of it does what the application's nine middlewares do, in Flower's own functions and in one
step, and it holds a pull that finds nothing instead of sending it away. Everything else goes to the
wrapped application. `reasons_to_step_aside` says when Flower is not the one this was written for: then
the stock application is served, slower. `FleetOnly` is the view that members get.
"""

from hansa.server.lane.app import Lane
from hansa.server.lane.check import reasons_to_step_aside
from hansa.server.lane.fleet_only import FleetOnly
from hansa.server.lane.nodes import NodeKey, read_node_keys, register_nodes

__all__ = ["FleetOnly", "Lane", "NodeKey", "read_node_keys", "reasons_to_step_aside", "register_nodes"]
