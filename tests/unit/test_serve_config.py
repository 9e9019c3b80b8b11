"""The Serve config that `serve.deploy` makes of its settings and of the room. No Ray is started."""

import json
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cluster import command, session
from cluster.errors import ResourceError
from cluster.resources import Capacity
from serve.config import user_config
from serve.deploy import config_of
from serve.keyring import hash_key
from serve.settings import Endpoint, Limits, Live
from tests.unit.deploying import settings

CODE = "file:///runs/serve-code/switchyard-0123.zip"
TWO_CPUS = Capacity(2, 0, 1)


def deployment(config: dict[str, Any]) -> dict[str, Any]:
    (application,) = config["applications"]
    (found,) = application["deployments"]
    return dict(found)


@pytest.mark.parametrize(
    ("values", "have"),
    [
        ({}, TWO_CPUS),
        ({}, Capacity(64, 4, 4)),
        ({"autoscaling": {"min_replicas": 0, "upscale_delay_s": 0}}, TWO_CPUS),
        ({"autoscaling": {"min_replicas": 2, "max_replicas": 8}}, Capacity(16, 0, 2)),
        ({"bundle": "s3://models/bundle", "threads": 3, "precision": "auto"}, TWO_CPUS),
        ({"host": "0.0.0.0", "port": 65535, "limits": {"waiting_requests": 1}}, TWO_CPUS),
    ],
)
def test_serve_takes_the_config_also_after_a_way_through_yaml(
    values: dict[str, Any], have: Capacity
) -> None:
    made = config_of(settings(**values), Live(key_hashes=(hash_key("sy_a"),)), have, CODE)
    taken = ServeDeploySchema.model_validate(made)
    assert taken.applications[0].import_path == "serve.replica:build"
    assert taken.applications[0].runtime_env == {"working_dir": CODE}
    again = yaml.safe_load(yaml.safe_dump(made, sort_keys=False))
    assert again == made
    assert ServeDeploySchema.model_validate(again) == taken


@pytest.mark.parametrize(
    ("addresses", "one_front"),
    [(["127.0.0.1"], False), (["127.0.0.1"] * 3, True), (["10.0.0.1", "10.0.0.2"], False)],
)
def test_nodes_that_share_an_address_have_one_front_and_others_one_each(
    addresses: list[str], one_front: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [{"NodeManagerAddress": address} for address in addresses]
    monkeypatch.setattr(session, "nodes", lambda: alive)
    assert session.share_an_address() is one_front
    made = config_of(settings(), Live(), TWO_CPUS, CODE, one_front=session.share_an_address())
    taken = ServeDeploySchema.model_validate(made)
    assert taken.proxy_location == ("HeadOnly" if one_front else "EveryNode")


def test_the_replica_reads_from_the_config_what_the_command_was_told() -> None:
    told = settings(
        name="tickets",
        threads=2,
        precision="bf16",
        limits={"texts": 5, "answer_s": 1.5},
        feedback="/corrections",
        autoscaling={"max_replicas": 3},
    )
    live = Live(bundle="/runs/one/bundle", name="tickets", key_hashes=("aa", "bb"))
    made = config_of(told, live, Capacity(8, 0, 1), CODE)
    args, hot = json.loads(json.dumps([made["applications"][0]["args"], user_config(made)]))
    assert command.build(Endpoint, args) == Endpoint(
        precision="bf16",
        threads=2,
        limits=Limits(texts=5, answer_s=1.5),
        feedback={"uri": "/corrections"},
    )
    assert command.build(Live, hot) == live


def test_another_bundle_or_other_keys_change_nothing_that_restarts_replicas() -> None:
    """Serve replaces every replica where `args` or the code differ, and else tells them."""
    live = Live(bundle="/runs/one/bundle", key_hashes=("aa",))
    other = Live(bundle="/runs/two/bundle", key_hashes=("bb",), fallbacks=("/runs/one/bundle",))
    one, two = (config_of(settings(), hot, TWO_CPUS, CODE) for hot in (live, other))
    assert user_config(one) != user_config(two)
    for config in (one, two):
        del config["applications"][0]["deployments"][0]["user_config"]
    assert one == two


def test_serves_own_limit_is_never_met_before_that_of_the_door() -> None:
    found = deployment(config_of(settings(), Live(), TWO_CPUS, CODE))
    assert found["max_ongoing_requests"] > Limits().waiting_requests
    assert found["max_queued_requests"] == -1


@pytest.mark.parametrize(
    ("have", "scaling", "expected"),
    [
        # (smallest, largest), and what a replica claims
        (TWO_CPUS, {}, (1, 1)),
        (Capacity(1, 0, 1), {}, (1, 1)),
        (Capacity(9, 0, 1), {}, (1, 8)),
        (Capacity(9, 0, 1), {"min_replicas": 3}, (3, 8)),
        (Capacity(9, 0, 1), {"min_replicas": 0}, (0, 8)),
        (Capacity(9, 0, 1), {"max_replicas": 4}, (1, 4)),
        (Capacity(9, 0, 1), {"max_replicas": 400}, (1, 8)),
        (Capacity(9, 0, 1), {"min_replicas": 8, "max_replicas": 8}, (8, 8)),
        (Capacity(64, 4, 1), {}, (1, 4)),
        (Capacity(2, 4, 1), {"max_replicas": 3}, (1, 3)),
        (Capacity(4, 0.5, 1), {}, (1, 3)),
    ],
)
def test_replicas_stay_within_what_was_asked_and_what_there_is(
    have: Capacity, scaling: dict[str, int], expected: tuple[int, int]
) -> None:
    found = deployment(config_of(settings(autoscaling=scaling), Live(), have, CODE))
    numbers = found["autoscaling_config"]
    assert "initial_replicas" not in numbers, "Serve would go back to it at every change"
    keys = ("min_replicas", "max_replicas")
    assert tuple(numbers[key] for key in keys) == expected
    claim = {"num_gpus": 1, "num_cpus": 0} if have.gpus >= 1 else {"num_cpus": 1}
    assert found["ray_actor_options"] == claim


@pytest.mark.parametrize(
    ("have", "scaling", "new_ones_first"),
    [
        (TWO_CPUS, {}, True),  # beside it is the CPU that is kept for jobs
        (Capacity(1, 0, 1), {}, False),
        (Capacity(9, 0, 1), {}, True),
        (Capacity(64, 4, 1), {}, False),
        (Capacity(64, 4, 1), {"max_replicas": 3}, True),
        # A training holds the rest, and the update would wait for its end.
        (Capacity(4, 0, 2, free=((0.5, 0), (0.5, 0))), {"max_replicas": 1}, False),
        (Capacity(4, 0, 2, free=((0.5, 0), (1, 0))), {"max_replicas": 1}, True),
        (Capacity(64, 4, 1, free=((30, 0),)), {"max_replicas": 3}, False),
        (Capacity(64, 4, 1, free=((0.5, 1),)), {"max_replicas": 3}, True),
    ],
)
def test_new_replicas_start_before_old_ones_end_where_there_is_room(
    have: Capacity, scaling: dict[str, int], new_ones_first: bool
) -> None:
    found = deployment(config_of(settings(autoscaling=scaling), Live(), have, CODE))
    assert (found["max_surge_percent"] > 0) is new_ones_first


def test_more_replicas_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ResourceError) as refused:
        config_of(settings(autoscaling={"min_replicas": 4}), Live(), Capacity(4, 0, 1), CODE)
    assert str(refused.value) == (
        "autoscaling.min_replicas is 4, and the cluster has 4 CPUs and 0 GPUs: room for 3."
    )
