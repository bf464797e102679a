"""The facts both sides share: charter, feature contract, messages. Imports nothing else of Hansa."""
