"""The `hansa` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a `HansaError` becomes one line on stderr and its exit code."""
    from hansa.cli.app import build
    from hansa.contract.errors import HansaError

    try:
        build()()
    except HansaError as error:
        print(f"hansa: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
