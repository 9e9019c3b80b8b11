"""The panels of the dashboard that are not of the endpoint: runs that train, and nodes' disks."""

from typing import Any

from cluster.monitoring.panels import panel

# As the alerts SwitchyardTrainingStalled and SwitchyardDiskFilling.
STALLED_S = 900
DISK_PERCENT = 85


def training_and_nodes() -> list[dict[str, Any]]:
    return [
        panel(
            "Training",
            "cps",
            "Batches a second of each run (a search is one run), of training and of validation.",
            [
                (
                    "sum by (run, part) (rate(ray_switchyard_training_batches_total"
                    "[$__rate_interval]))",
                    "{{run}}: {{part}}",
                )
            ],
        ),
        panel(
            "Time since the last batch",
            "s",
            "Of each run that is under way; nothing is shown for one that has ended. At the line "
            "it counts as stalled.",
            [("max by (run) (ray_switchyard_training_idle_seconds)", "{{run}}")],
            alarm=STALLED_S,
        ),
        panel(
            "Disks",
            "percent",
            "How full the disk of each node is, from Ray. At 95% Ray fails what runs there.",
            [("max by (ip) (ray_node_disk_utilization_percentage)", "{{ip}}")],
            alarm=DISK_PERCENT,
        ),
    ]
