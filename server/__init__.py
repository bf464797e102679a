"""The consortium's side: SuperLink lane, ServerApp, store, control."""
