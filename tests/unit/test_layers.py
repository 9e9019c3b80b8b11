"""The layers: who may import whom, read from the source without running it."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cluster", "jobs", "serve", "tuning")
OURS = (*PACKAGES, "tests")

# Package (the longest that fits decides) → what of ours it may import.
ALLOWED = {
    "cluster": ("cluster",),
    "jobs": ("cluster", "jobs"),
    "jobs.classifier": ("jobs.classifier", "cluster.errors"),
    "serve": ("cluster", "serve", "jobs.classifier"),
    "tuning": ("cluster", "jobs", "tuning"),
}
# Package → what of others it may never import.
FORBIDDEN = {
    "jobs.classifier": ("ray", "fastapi", "pyarrow.fs"),
    "serve": ("ray.train", "ray.data", "ray.tune"),
}
# (importer, command module) → why that is accepted.
EXCEPTIONS: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class Module:
    """What the source of a module says about itself."""

    imports: frozenset[str]
    command: bool


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def read(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, Module]:
    """Every module below `root` by its dotted name."""
    sources = {
        dotted(path.relative_to(root)): path.read_text(encoding="utf-8")
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    return {name: understand(name, source, set(sources)) for name, source in sources.items()}


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def understand(name: str, source: str, known: set[str]) -> Module:
    nodes = list(ast.walk(ast.parse(source)))
    found = {target for node in nodes for target in targets(node, name, known)}
    return Module(frozenset(found), any(is_main_guard(node) for node in nodes))


def targets(node: ast.AST, name: str, known: set[str]) -> Iterator[str]:
    """The modules that an import statement, or a call of import_module, names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = name.split(".")[: -node.level] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}"
            # Of ours we know what is a module; of others both readings are noted.
            if base.split(".")[0] in OURS:
                yield full if full in known else base
            else:
                yield from (base, full)
    elif isinstance(node, ast.Call) and node.args:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        first = node.args[0]
        if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
            yield str(first.value)


def is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def rule_of(name: str, rules: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    fitting = [package for package in rules if inside(name, package)]
    return rules[max(fitting, key=len)] if fitting else ()


def layer_breaks(modules: dict[str, Module]) -> list[str]:
    """Imports of ours that a layer does not allow, and of others that it forbids."""
    found = []
    for name, module in modules.items():
        for target in sorted(module.imports):
            if target.split(".")[0] in OURS:
                bad = not any(inside(target, package) for package in rule_of(name, ALLOWED))
            else:
                bad = any(inside(target, package) for package in rule_of(name, FORBIDDEN))
            if bad:
                found.append(f"{name} imports {target}")
    return found


def imported_commands(modules: dict[str, Module]) -> set[tuple[str, str]]:
    """(importer, command module) pairs."""
    return {
        (name, target)
        for name, module in modules.items()
        for target in module.imports
        if target in modules and modules[target].command
    }


def cycle(modules: dict[str, Module]) -> list[str]:
    """The modules of one import cycle in order, or nothing."""
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in finished:
            return []
        for target in sorted(modules[name].imports & modules.keys()):
            if loop := visit(target, [*path, name]):
                return loop
        finished.add(name)
        return []

    return next((loop for name in modules if (loop := visit(name, []))), [])


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read(ROOT)


def test_every_layer_imports_only_what_lies_below_it(modules: dict[str, Module]) -> None:
    assert {"cluster.errors", "jobs.classifier.loop", "jobs.trainer", "serve.app"} <= set(modules)
    assert layer_breaks(modules) == []


def test_command_modules_are_imported_by_nobody_but_the_known_exceptions(
    modules: dict[str, Module],
) -> None:
    assert {"jobs.train", "serve.deploy"} <= {n for n, m in modules.items() if m.command}
    assert imported_commands(modules) == set(EXCEPTIONS)


def test_no_modules_import_each_other_in_a_circle(modules: dict[str, Module]) -> None:
    assert cycle(modules) == []


def test_every_folder_with_code_has_an_empty_init_file() -> None:
    folders = {path.parent for name in OURS for path in (ROOT / name).rglob("*.py")}
    assert ROOT / "jobs" / "classifier" in folders
    found = {str(folder.relative_to(ROOT)): folder / "__init__.py" for folder in folders}
    assert {name for name, init in found.items() if not init.exists()} == set()
    assert {name for name, init in found.items() if init.read_bytes()} == set()


def test_the_classifier_is_importable_where_there_is_no_ray() -> None:
    program = (
        "import importlib, pkgutil, sys\n"
        "sys.modules['ray'] = sys.modules['fastapi'] = None\n"
        "import jobs.classifier as package\n"
        "for found in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'jobs.classifier.{found.name}')\n"
        "    print(found.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = {path.stem for path in (ROOT / "jobs" / "classifier").glob("*.py")} - {"__init__"}
    assert set(done.stdout.split()) == files


def tree(root: Path, files: dict[str, str]) -> dict[str, Module]:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return read(root)


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("cluster/a.py", "from jobs import records", "cluster.a imports jobs.records"),
        ("cluster/a.py", "from jobs.records import x", "cluster.a imports jobs.records"),
        ("cluster/a.py", "def f():\n import serve.app", "cluster.a imports serve.app"),
        ("jobs/a.py", "from serve import app", "jobs.a imports serve.app"),
        ("jobs/a.py", "import tests.conftest", "jobs.a imports tests.conftest"),
        ("jobs/a.py", "if f:\n  from ..tuning import x", "jobs.a imports tuning"),
        ("jobs/classifier/a.py", "from cluster import errors, storage", "imports cluster.storage"),
        ("jobs/classifier/a.py", "from jobs import records", "imports jobs.records"),
        ("jobs/classifier/a.py", "from .. import records", "imports jobs.records"),
        ("jobs/classifier/a.py", "from ray.train import x", "imports ray.train"),
        ("jobs/classifier/a.py", "class A:\n def f(self):\n  import ray", "imports ray"),
        ("jobs/classifier/a.py", "from pyarrow import fs", "imports pyarrow.fs"),
        ("jobs/classifier/a.py", "import pyarrow.fs as p", "imports pyarrow.fs"),
        ("jobs/classifier/a.py", "import_module('fastapi')", "imports fastapi"),
        ("serve/a.py", "from jobs import records", "serve.a imports jobs.records"),
        ("serve/a.py", "from ray import tune", "serve.a imports ray.tune"),
        ("serve/a.py", "def f():\n import ray.data.context", "serve.a imports ray.data.context"),
        ("tuning/a.py", "import serve", "tuning.a imports serve"),
    ],
)
def test_the_rules_see_a_break_wherever_the_import_stands(
    tmp_path: Path, path: str, source: str, message: str
) -> None:
    around = {
        f"{name}.py": ""
        for name in ("jobs/records", "serve/app", "cluster/storage", "cluster/errors")
    }
    modules = tree(tmp_path, around | {path: source})
    assert any(message in line for line in layer_breaks(modules)), layer_breaks(modules)


def test_the_rules_let_allowed_imports_pass(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        {
            "cluster/errors.py": "import ray",
            "jobs/classifier/text.py": "from cluster.errors import DataError\nimport pyarrow",
            "jobs/a.py": "from jobs.classifier import text\nfrom cluster import errors\nimport ray",
            "serve/a.py": "from jobs.classifier import text\nfrom ray import serve",
            "tuning/a.py": "from jobs import a\nimport ray.tune",
        },
    )
    assert layer_breaks(modules) == []
    assert cycle(modules) == []


def test_the_rules_see_imported_commands_and_circles(tmp_path: Path) -> None:
    modules = tree(
        tmp_path,
        {
            "jobs/a.py": "def f():\n  from jobs import b",
            "jobs/b.py": "from jobs.c import x",
            "jobs/c.py": "import jobs.a\nif __name__ == '__main__':\n  pass",
        },
    )
    assert imported_commands(modules) == {("jobs.b", "jobs.c")}
    assert cycle(modules) == ["jobs.a", "jobs.b", "jobs.c", "jobs.a"]
