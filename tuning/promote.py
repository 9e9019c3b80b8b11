"""Judges a bundle on test rows and makes it the champion of a registry, if it passes the gate.

    python -m tuning.promote --experiment /runs/search --registry s3://models --name router
    python -m tuning.promote --bundle /runs/first/bundle --registry s3://models --name router
    python -m tuning.promote --registry s3://models --name router --rollback

The bundle answers the test rows of the data it was trained on, and so does the present champion;
they are compared on the rows that neither was trained on. Exit 3 and the reason where the gate
says no. Every use of the same test rows is counted in the registry.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from cluster import command
from cluster.errors import GateRefused, SettingError
from cluster.registry import CHAMPION, Registry, check_name
from cluster.storage import OutputUri, Uri
from tuning import judgement, promotion
from tuning.gate_settings import GateSettings


class Promote(GateSettings):
    """Settings of `tuning.promote`."""

    experiment: Uri | None = Field(None, description="experiment whose winner is judged")
    bundle: Uri | None = Field(None, description="the bundle that is judged, instead")
    registry: OutputUri = Field(description="the registry; it is made by its first version")
    name: str = Field(description="name of the model in the registry")
    data: Uri | None = Field(
        None, description="where the bundle's prepared data lies now; none: where it was"
    )
    dry_run: bool = Field(
        False,
        description="judge and say the verdict, register nothing; it is a use of the test rows",
    )
    rollback: bool = Field(False, description="make the champion's predecessor champion again")


def promote(settings: Promote) -> dict[str, Any]:
    """Promotes or rolls back; GateRefused with the reason where the gate says no."""
    _check(settings)
    registry = Registry(settings.registry)
    where = {"registry": settings.registry, "name": settings.name}
    if settings.rollback:
        return where | _roll_back(registry, settings.name)
    judged = promotion.judge(
        registry,
        settings.name,
        _bundle(settings),
        data=settings.data,
        limits=settings.limits(),
        precision=settings.precision,
    )
    judgement.say_all(judged)
    found = where | judgement.facts(judged)
    if not judged.verdict.passed:
        raise GateRefused(
            f"{judged.candidate.uri} is not promoted. {judged.verdict.in_words()}",
            **found,
            version=None,
            uri=None,
        )
    if settings.dry_run:
        print("It would be promoted. Nothing was registered (--dry-run).")
        return found | {"version": None, "uri": None, "dry_run": True}
    version, uri = promotion.register(registry, settings.name, judged)
    print(f"Version {version} is the champion of {settings.name}: {uri}")
    return found | {"version": version, "uri": uri}


def _check(settings: Promote) -> None:
    check_name(settings.name)
    given = [key for key in ("experiment", "bundle") if getattr(settings, key) is not None]
    if settings.rollback:
        given += ["dry-run"] * settings.dry_run
        if given:
            raise SettingError(f"--rollback judges nothing: leave out --{given[0]}.")
    elif len(given) != 1:
        what = "neither was given" if not given else "both were given"
        raise SettingError(
            f"One of --experiment URI and --bundle URI says what is judged: {what}. (--rollback "
            "needs none.)"
        )


def _bundle(settings: Promote) -> str:
    if settings.bundle is not None:
        return settings.bundle
    from tuning.winner import winning_bundle

    assert settings.experiment is not None
    return winning_bundle(settings.experiment)


def _roll_back(registry: Registry, name: str) -> dict[str, Any]:
    before, version = registry.roll_back(name, CHAMPION, reason=f"{CHAMPION} rolled back")
    uri = registry.folder(name, version)
    print(f"Version {version} is the champion of {name} again, in place of {before}: {uri}")
    return {"version": version, "uri": uri, "rolled_back": before}


def main(argv: Sequence[str] | None = None) -> None:
    command.run(Promote, promote, program="tuning.promote", summary=str(__doc__), argv=argv)


if __name__ == "__main__":
    main()
