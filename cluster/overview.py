"""What a local cluster says of itself: nodes, jobs and endpoints, as figures and as text.

Asks its dashboard alone; what does not answer there is left out. Knows nothing of commands.
"""

import re
from collections import Counter
from typing import Any

from cluster import state

WIDTH = 72  # of an entrypoint, which may be a whole program
_USE = re.compile(r"([\d.]+)/([\d.]+) (CPU|GPU)")


def overview(written: dict[str, Any]) -> dict[str, Any]:
    """`alive` (the nodes that are up), `jobs` and `endpoints`, as plain values."""
    return {"alive": nodes(written), "jobs": jobs(written), "endpoints": endpoints(written)}


def nodes(written: dict[str, Any]) -> list[dict[str, Any]]:
    """Each node that is up: its id, whether it is the head, what it has and what is claimed."""
    reply = (state.get(written, "/nodes?view=summary") or {}).get("data", {})
    claimed = reply.get("nodeLogicalResources", {})
    found = []
    for node in (one.get("raylet", {}) for one in reply.get("summary", [])):
        if node.get("state") != "ALIVE":
            continue
        has, identity = node.get("resourcesTotal", {}), node.get("nodeId", "")
        used = {kind: float(use) for use, _, kind in _USE.findall(claimed.get(identity, ""))}
        found.append(
            {
                "id": identity,
                "head": bool(node.get("isHeadNode")),
                "cpus": has.get("CPU", 0.0),
                "cpus_claimed": used.get("CPU", 0.0),
                "gpus": has.get("GPU", 0.0),
                "gpus_claimed": used.get("GPU", 0.0),
                "memory_gib": round(has.get("memory", 0.0) / 2**30, 1),
            }
        )
    return sorted(found, key=lambda node: not node["head"])


def jobs(written: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs that were sent, the newest first."""
    sent = [job for job in state.get(written, "/api/jobs/") or [] if job.get("submission_id")]
    sent.sort(key=lambda job: -(job.get("start_time") or 0))
    return [
        {
            "id": job["submission_id"],
            "status": job.get("status"),
            "exit_code": job.get("driver_exit_code"),
            "entrypoint": _shortened(job.get("entrypoint") or ""),
        }
        for job in sent
    ]


def endpoints(written: dict[str, Any]) -> list[dict[str, Any]]:
    """The applications on Ray Serve: where they answer, and their replicas by state."""
    serving = state.get(written, "/api/serve/applications/") or {}
    applications = serving.get("applications") or {}
    listens = serving.get("http_options") or {}
    base = url(listens.get("host") or "127.0.0.1", listens.get("port"))
    found = []
    for name, application in applications.items():
        deployments = (application.get("deployments") or {}).values()
        replicas = [one for each in deployments for one in each.get("replicas") or []]
        prefix = application.get("route_prefix")
        found.append(
            {
                "name": name,
                "status": application.get("status"),
                # Serve gives no prefix to what is called by other applications alone.
                "url": None if prefix is None else f"{base}{prefix}",
                "replicas": dict(Counter(one.get("state") for one in replicas)),
                "nodes": len({one.get("node_id") for one in replicas} - {None}),
            }
        )
    return found


def url(host: str, port: int | None) -> str:
    """Where a program on this machine finds what listens there."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def as_text(found: dict[str, Any], wanted: int) -> str:
    """The same for a person; `wanted` is how many nodes there should be."""
    lines = [f"Nodes      {len(found['alive'])} of {wanted} are up"]
    for node in found["alive"]:
        gpus = f", {node['gpus_claimed']:g} of {node['gpus']:g} GPUs" if node["gpus"] else ""
        lines.append(
            f"  {node['id'][:12]}  {'head  ' if node['head'] else 'worker'}  "
            f"{node['cpus_claimed']:g} of {node['cpus']:g} CPUs{gpus} claimed, "
            f"{node['memory_gib']:g} GiB"
        )
    lines.append(f"Jobs       {len(found['jobs']) or 'none was sent'}")
    for job in found["jobs"]:
        lines.append(f"  {job['id']}  {job['status']:<9}  {job['entrypoint']}")
    lines.append(f"Endpoints  {len(found['endpoints']) or 'none is deployed'}")
    for one in found["endpoints"]:
        states = ", ".join(f"{count} {name}" for name, count in sorted(one["replicas"].items()))
        nodes_ = f"{one['nodes']} node" + ("s" if one["nodes"] != 1 else "")
        lines.append(
            f"  {one['name']}  {one['status']}  {one['url'] or 'no URL'}  "
            f"replicas: {states or 'none'}" + (f", on {nodes_}" if states else "")
        )
    return "\n".join(lines)


def _shortened(entrypoint: str) -> str:
    one_line = " ".join(entrypoint.split())
    return one_line if len(one_line) <= WIDTH else f"{one_line[: WIDTH - 2]} …"
