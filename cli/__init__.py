"""The `hansa` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a `HansaError` becomes one line on stderr and its exit code.

    So does what the operating system refuses: a full disk, a file that may not be written.
    """
    from hansa.cli.app import build
    from hansa.contract.errors import HansaError

    try:
        build()()
    except HansaError as error:
        print(f"hansa: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"hansa: {place}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
