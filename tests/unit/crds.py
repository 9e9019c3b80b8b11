"""KubeRay's own schemas, as strict as a reader is: the API server drops what it does not know, and
here that is an error."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = "KUBERAY_CRDS"


def folder() -> Path:
    """Where the definitions lie; skips where they are not."""
    found = Path(os.environ.get(VARIABLE, ROOT.parent / "shared" / "data" / "kuberay-crds"))
    if not found.is_dir():
        pytest.skip(f"KubeRay's schemas are not in {found}; {VARIABLE} may name their folder")
    return found


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    file = folder() / f"ray.io_{kind.lower()}s.yaml"
    definition = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert definition["spec"]["names"]["kind"] == kind
    (version,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"].pop("additionalProperties", None)  # the API server's own
    return jsonschema.Draft202012Validator(schema)


def errors(document: dict[str, Any]) -> list[str]:
    found = validator(document["kind"]).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def _strict(schema: Any) -> Any:
    """A structural schema with every object closed that does not say that it is open."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: {name: _strict(each) for name, each in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
    }
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and not is_open:
        made["additionalProperties"] = False
    return made
