"""An organisation's copy of the trained model, offered for predictions inside the organisation over HTTP."""
