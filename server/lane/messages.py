"""Objects that ride inside push and pull bodies; see `hansa.contract.inlined`."""

from __future__ import annotations

from typing import Any

from flwr.supercore.error import FlowerError
from flwr.supercore.inflatable.inflatable_object import get_object_id, iterate_object_tree

from hansa.contract.inlined import add_inlined, read_inlined
from hansa.server.lane.calls import Call, confirm, pull_object, push_object


def store_inlined(call: Call, response: Any) -> None:
    """Store what came with a push; `response.objects_to_push` keeps only what must still be sent.

    Each object passes the handler its own request would have reached, hash check included.
    """
    contents = read_inlined(call.message).objects
    if not contents:
        return
    missing = dict.fromkeys(response.objects_to_push)
    run_id = call.message.messages_list[0].metadata.run_id
    for content in contents:
        object_id = get_object_id(content)
        if object_id in missing and push_object(call, run_id, response.session_id, object_id, content):
            del missing[object_id]
    del response.objects_to_push[:]
    response.objects_to_push.extend(missing)


def inline_objects(call: Call, response: Any) -> Any:
    """Add the contents of pulled messages, whole messages only, up to what the puller takes.

    A message that leaves whole is confirmed here; one too large is left to be pulled object by object.
    """
    room = read_inlined(call.message).limit
    for message, tree in zip(response.messages_list, response.message_object_trees, strict=True):
        if room <= 0:
            break
        run_id = message.metadata.run_id
        try:
            contents = [pull_object(call, run_id, it.object_id) for it in iterate_object_tree(tree)]
        except FlowerError:
            continue  # the run has ended: whoever pulls the objects is told so
        whole = [it for it in contents if it is not None]
        size = sum(map(len, whole))
        if len(whole) < len(contents) or size > room:
            continue
        room -= size
        add_inlined(response, whole)
        confirm(call, run_id, message.metadata.message_id)
    return response


def forget_messages(call: Call) -> None:
    """Delete messages of this run that it named: undelivered ones, and late replies to them."""
    named = set(read_inlined(call.message).forget)
    if not named:
        return
    own = named & call.state.get_message_ids_from_run_id(call.task.run_id)
    call.state.delete_messages(own)
    for message_id in own:
        call.state.object_store.delete(message_id)
