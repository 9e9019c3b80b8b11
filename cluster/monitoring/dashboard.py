"""The Grafana dashboard, as it is kept in switchyard-dashboard.json beside this.

    python -c "from cluster.monitoring import dashboard; dashboard.write()"

writes the file anew after a change here. Grafana (10 or later) loads it by the provisioning in
grafana/ beside this, or by hand: Dashboards, New, Import. It reads what Ray's per-node exporters
give Prometheus, metrics of ours and a few of Ray's; for more of those take the dashboards that Ray
itself makes.
"""

import json
from pathlib import Path
from typing import Any

from cluster.monitoring.elsewhere import training_and_nodes
from cluster.monitoring.panels import SOURCE, US, lay_out, mean, panel, quantile, quantiles, rate

FILE = Path(__file__).with_name("switchyard-dashboard.json")
# As serve.drift.ALARM, which gives the reason.
DRIFT_ALARM = 0.1
_ANSWERING = f'{US}, route=~"/v1/classify|/predict|/models/.*"'


def requests() -> list[dict[str, Any]]:
    return [
        panel(
            "Requests",
            "reqps",
            "Requests answered a second, by route. Paths that are no route are 'other'.",
            [(rate("requests_total", "route"), "{{route}}")],
        ),
        panel(
            "Errors",
            "reqps",
            "Requests refused a second, by the error_type of the reply. 'internal' is a fault of "
            "ours; 'overloaded' and 'too_late' want more replicas; the others are the clients'.",
            [(rate("errors_total", "error_type"), "{{error_type}}")],
        ),
        panel(
            "Latency",
            "s",
            "Time from the first byte read to the reply, on the routes that label texts; refused "
            "requests are in it.",
            quantiles("request_seconds", 0.5, 0.95, 0.99, select=_ANSWERING),
        ),
    ]


def stages() -> list[dict[str, Any]]:
    return [
        panel(
            "Stages",
            "s",
            "95th percentile of the time in each stage: queue and tokenize of a request, infer of "
            "one turn of the model. A long queue with a short infer wants more replicas.",
            [(quantile(0.95, "stage_seconds", "stage"), "{{stage}}")],
        ),
        panel(
            "Texts in a turn",
            "short",
            "Texts that one turn of the model takes. It grows with load, since waiting requests "
            "go together.",
            [(mean("batch_rows"), "mean"), *quantiles("batch_rows", 0.95)],
        ),
        panel(
            "Tokens in a turn",
            "short",
            "Tokens that one turn of the model takes, at most 4,096 unless one request has more.",
            [(mean("batch_tokens"), "mean"), *quantiles("batch_tokens", 0.95)],
        ),
        panel(
            "Waiting requests",
            "short",
            "Requests that wait for the model in each replica, and those that Ray Serve has not "
            "given to a replica yet.",
            [
                (f"sum by (replica) (ray_switchyard_waiting_requests{{{US}}})", "{{replica}}"),
                (f"sum (ray_serve_deployment_queued_queries{{{US}}})", "at no replica yet"),
            ],
        ),
        panel(
            "Waiting tokens",
            "short",
            "Tokens that wait for the model in each replica. Above limits.waiting_tokens a "
            "request is answered with 429.",
            [(f"sum by (replica) (ray_switchyard_waiting_tokens{{{US}}})", "{{replica}}")],
        ),
        panel(
            "Texts",
            "short",
            "Texts answered a second, of all replicas: a request may have many.",
            [(rate("answers_total"), "texts a second")],
        ),
    ]


def answers() -> list[dict[str, Any]]:
    share = f"{rate('answers_total', 'label')} / scalar({rate('answers_total')})"
    prior = f"avg by (label) (ray_switchyard_label_prior_share{{{US}}})"
    return [
        panel(
            "Drift of the labels",
            "percentunit",
            "Share of each replica's last answers by which their labels differ from the natural "
            "prior, less what chance gives (total variation). Zero: no drift, whatever the number "
            f"of classes. Above {DRIFT_ALARM}, the line, it is not chance. Nothing is shown below "
            "250 answers.",
            [(f"max by (replica) (ray_switchyard_label_drift_share{{{US}}})", "{{replica}}")],
            alarm=DRIFT_ALARM,
        ),
        panel(
            "Labels above their prior",
            "percentunit",
            "The ten labels whose share of the answers is most above the share that the model was "
            "made for: what a drift consists of.",
            [(f"topk(10, ({share}) - on (label) {prior})", "{{label}}")],
        ),
        panel(
            "Labels",
            "percentunit",
            "Share of the answers of the twenty most frequent labels.",
            [(f"topk(20, {share})", "{{label}}")],
        ),
        panel(
            "Abstentions",
            "percentunit",
            "Share of texts that were answered with: ask a human. It rises when texts come that "
            "the model was not made for.",
            [(f"{rate('abstentions_total')} / {rate('answers_total')}", "abstained")],
        ),
        panel(
            "Truncations",
            "percentunit",
            "Share of texts that were longer than the model reads (model.max_tokens).",
            [(f"{rate('truncations_total')} / {rate('answers_total')}", "truncated")],
        ),
        panel(
            "Scores",
            "percentunit",
            "Calibrated score of the label that was answered: the median, and the tenth that the "
            "model is least sure of.",
            quantiles("answer_score", 0.1, 0.5),
        ),
        panel(
            "Feedback",
            "cps",
            "Corrections taken in a second, of all replicas.",
            [(rate("feedback_total"), "corrections")],
        ),
    ]


def replicas() -> list[dict[str, Any]]:
    return [
        panel(
            "Model of each replica",
            "none",
            "Which version each replica answers with. During a change two are seen; a replica "
            "that stays behind has not found the new champion.",
            [
                (
                    f"max by (replica, name, version) (ray_switchyard_model_info{{{US}}})",
                    "{{replica}}: {{name}} {{version}}",
                )
            ],
            kind="state-timeline",
        ),
        panel(
            "Replicas",
            "short",
            "Replicas that are healthy, and as many as the autoscaler wants. From Ray Serve.",
            [
                (f"sum (ray_serve_deployment_replica_healthy{{{US}}})", "healthy"),
                (f"sum (ray_serve_autoscaling_target_replicas{{{US}}})", "wanted"),
            ],
        ),
        panel(
            "Refused models",
            "short",
            "1 for a replica that does not answer with what it should; `update` in /info says why.",
            [(f"max by (replica) (ray_switchyard_model_refused{{{US}}})", "{{replica}}")],
        ),
        panel(
            "Requests under way",
            "short",
            "Requests that each replica is working on, its queue included. From Ray Serve; "
            "autoscaling aims at autoscaling.target_ongoing_requests.",
            [(f"sum by (replica) (ray_serve_replica_processing_queries{{{US}}})", "{{replica}}")],
        ),
        panel(
            "Answers in the drift window",
            "short",
            "Answers that each replica's drift is computed from. It begins at zero with every "
            "new model.",
            [(f"max by (replica) (ray_switchyard_label_window_answers{{{US}}})", "{{replica}}")],
        ),
    ]


def variables() -> list[dict[str, Any]]:
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
        },
        {
            "name": "application",
            "label": "Application",
            "type": "query",
            "datasource": SOURCE,
            "query": {
                "query": "label_values(ray_switchyard_model_info, application)",
                "refId": "application",
            },
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        },
    ]


def dashboard() -> dict[str, Any]:
    """The whole, in Grafana's schema."""
    return {
        "uid": "switchyard",
        "title": "Switchyard",
        "description": "The endpoint: requests, stages, answers, replicas; training and disks.",
        "tags": ["switchyard", "ray"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": variables()},
        "panels": lay_out(
            [
                ("Requests", requests()),
                ("On the way to the model", stages()),
                ("Answers", answers()),
                ("Replicas", replicas()),
                ("Training and nodes", training_and_nodes()),
            ]
        ),
    }


def write() -> None:
    """Writes the file anew."""
    FILE.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
