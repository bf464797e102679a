"""Arrows point one way (DESIGN section 10), and every package is installed."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("cli", "server", "clients", "sidecar", "strategies", "models", "privacy", "secagg", "contract")
MAY_IMPORT = {
    "contract": set(),
    "secagg": {"contract"},
    "privacy": {"contract"},
    "models": {"contract"},
    "strategies": {"privacy", "secagg", "models", "contract"},
    "clients": {"strategies", "privacy", "secagg", "models", "contract"},
    "server": {"strategies", "privacy", "secagg", "models", "contract"},
    "sidecar": {"privacy", "contract"},
    "cli": set(PACKAGES),
}
NEVER = {
    "contract": {"torch", "polars"},
    "secagg": {"flwr", "torch"},
    "privacy": {"flwr"},
    "models": {"flwr"},
    "sidecar": {"flwr", "torch"},
}


def imports(path: Path) -> set[str]:
    """Every module a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            if parts[0] == "hansa" and len(parts) > 1 and parts[1] != package:
                assert parts[1] in MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {module}"
            assert parts[0] not in NEVER.get(package, set()), f"{path.relative_to(ROOT)} imports {module}"


def test_the_node_imports_neither_models_nor_data() -> None:
    for name in ("node.py", "fleet.py", "app.py"):
        for module in imports(ROOT / "clients" / name):
            assert not module.startswith(("torch", "polars", "hansa.models", "hansa.clients.data")), (
                name,
                module,
            )


def test_every_package_is_installed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        "hansa." + ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert found <= listed, f"missing in [tool.setuptools] packages: {sorted(found - listed)}"


def test_no_process_loads_tenseal_when_it_starts() -> None:
    modules = (
        *("cli", "clients.agent", "clients.attempt", "clients.protocol", "clients.node"),
        *("server.app", "server.superlink", "server.executor", "server.control.app"),
    )
    program = "import sys; import " + ", ".join(f"hansa.{name}" for name in modules)
    program += "; print([name for name in sys.modules if 'tenseal' in name])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
