"""Where the model that is served comes from: one bundle, or whichever is champion of a registry.

Knows nothing of how it is loaded.
"""

from cluster import storage
from cluster.errors import SettingError, StorageError
from cluster.registry import Registry, check_name
from jobs.classifier import bundle


def require_one(uri: str | None, registry: str | None, *, named: bool) -> None:
    """SettingError unless there is a bundle, or a registry and the name of a model in it."""
    if uri is None and registry is None:
        raise SettingError(
            "--bundle is needed: the bundle that answers. Or give --registry URI and --name NAME, "
            "and the champion answers."
        )
    if uri is not None and registry is not None:
        raise SettingError("--bundle and --registry both say what answers: give one of the two.")
    if registry is not None and not named:
        raise SettingError(
            "--name is needed with --registry: the name that the model was promoted under."
        )


def find(uri: str | None, registry: str | None, name: str) -> tuple[str, str | None]:
    """(URI, version) of the bundle that answers now; a bundle outside a registry has no version.

    StorageError if the registry has no champion of that name.
    """
    if registry is not None:
        version, place = Registry(registry).resolve(check_name(name))
        return place, version
    assert uri is not None
    return uri, None


def earlier(registry: str, name: str) -> list[tuple[str, str]]:
    """(URI, version) of what was champion before, the newest first."""
    found = Registry(registry)
    return [(found.folder(name, version), version) for version in found.earlier(check_name(name))]


def check(uri: str) -> None:
    """BundleError or StorageError if what lies at `uri` cannot be served: before anything is
    deployed, since Serve would try a replica that fails again and again."""
    if not storage.is_local(uri) and not storage.exists(storage.join(uri, bundle.COMMIT)):
        raise StorageError(f"--bundle {uri} is no bundle: there is no {bundle.COMMIT} in it.")
    with storage.local_copy(uri) as folder:
        bundle.check(folder)


def code_folder(uri: str | None, registry: str | None, name: str) -> str:
    """Where the packed code goes, if nobody says: beside the bundle, or what has the versions."""
    if registry is not None:
        return storage.join(registry, name, "serve-code")
    assert uri is not None
    return storage.join(storage.parent(uri), "serve-code")
