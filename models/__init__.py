"""Models: what is trained. numpy where it suffices, torch only where a model needs it."""
