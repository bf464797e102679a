"""The child process of `read_in_subprocess`: a source in on stdin, its table out on stdout as Arrow IPC."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import TypeAdapter

from hansa.clients.data.sources import read_source
from hansa.contract.errors import HansaError
from hansa.contract.sources import Source


def main() -> int:
    """Read, write, and say in one line on stderr what went wrong."""
    source: Source = TypeAdapter(Source).validate_json(sys.stdin.buffer.read())
    try:
        read_source(source, Path(sys.argv[1])).write_ipc(sys.stdout.buffer)
    except HansaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
