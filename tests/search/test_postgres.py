"""Searches that share a PostgreSQL server, also from machines of which one is cut off."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from core.search.progress import compact
from tests.helpers.runs import rows
from tests.helpers.searching import (
    ASHA,
    kill_and_go_on,
    outcomes,
    search,
    share,
    start,
    trials,
    write_search,
)

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path(), key=lambda p: p.parent.name)
pytestmark = pytest.mark.skipif(
    not (BIN / "initdb").exists(), reason="PostgreSQL's server (package postgresql) is missing"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a server on all addresses; returns its port."""
    folder = tmp_path_factory.mktemp("postgres")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        shutil.chown(folder, user)
        for parent in folder.parents[:3]:
            parent.chmod(0o755)
    quiet = {"user": user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    data = str(folder / "data")
    command = [str(BIN / "initdb"), "-D", data, "-A", "trust", "-U", "tester"]
    subprocess.run(command, check=True, cwd=folder, **quiet)  # type: ignore[call-overload]
    with (folder / "data" / "pg_hba.conf").open("a") as file:
        file.write("host all all 10.0.0.0/8 trust\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=*", "-c", "fsync=off"]
    process = subprocess.Popen(  # type: ignore[call-overload]
        [str(BIN / "postgres"), "-D", data, *options], cwd=folder, **quiet
    )
    url = f"postgresql://tester@127.0.0.1:{port}/postgres"
    try:
        while True:
            try:
                psycopg.connect(url, connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def url(server: int) -> Iterator[str]:
    """Make an empty database; returns its URL."""
    main = f"postgresql://tester@127.0.0.1:{server}/"
    name = f"d{time.monotonic_ns()}"
    with psycopg.connect(main + "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield main + name


def test_two_searches_share_a_database_and_none_runs_twice(
    tmp_path: Path, data: Path, url: str
) -> None:
    share(tmp_path / "s", data, 8, "--storage", url)
    assert not (tmp_path / "s" / "search.journal").exists()


@pytest.mark.slow
def test_two_searches_share_300_trials_in_a_database(tmp_path: Path, data: Path, url: str) -> None:
    share(tmp_path / "s", data, 300, "--storage", url, jobs=2)


@pytest.mark.slow
def test_four_searches_share_300_trials_with_promotions_in_a_database(
    tmp_path: Path, data: Path, url: str
) -> None:
    share(tmp_path / "s", data, 300, "--storage", url, text=ASHA, searches=4, epochs=6)


@pytest.mark.slow
def test_a_search_in_a_database_that_is_killed_ends_as_one_that_was_not(
    tmp_path: Path, data: Path, url: str
) -> None:
    text = "method: random\ntrials: 8\nspace: {learning_rate: {low: 1e-5, high: 1e-2, log: true}}"
    kill_and_go_on(tmp_path, data, text, 8, 100, "--storage", url)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:///trials.db", "SQLite is not safe"),
        ("postgresql://tester@127.0.0.1:1/none", "--storage: "),
    ],
)
def test_a_storage_that_cannot_be_used_stops_with_a_message(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], storage: str, message: str
) -> None:
    folder = write_search(tmp_path / "s", "space: {learning_rate: [1]}")
    assert search(folder, data, "--storage", storage) == 2
    assert message in capsys.readouterr().err


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


Machine = Callable[[int], Sequence[str]]


@pytest.fixture
def machines() -> Iterator[Machine]:
    """Return a function that makes a network namespace, and returns how a command enters it.

    Machine n reaches the server at 10.77.n.1 over a link named search<n>.
    """
    made: list[int] = []

    def make(number: int) -> Sequence[str]:
        name = f"search{number}"
        try:
            ip("netns", "add", name)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces cannot be made here ({error})")
        made.append(number)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"10.77.{number}.1/24", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", f"10.77.{number}.2/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        return ["ip", "netns", "exec", name]

    yield make
    for number in made:
        ip("netns", "delete", f"search{number}")


@pytest.mark.slow
def test_the_trial_of_a_machine_that_is_cut_off_is_finished_by_another(
    tmp_path: Path, data: Path, url: str, machines: Machine
) -> None:
    text = "space: {learning_rate: [1e-6, 1e-5, 1e-4, 1e-3]}"
    params = {"num_epochs": 150, "checkpoint_minutes": 0.0}
    quiet = write_search(tmp_path / "quiet" / "s", text, **params)
    assert search(quiet, data) == 0
    folder = write_search(tmp_path / "s", text, **params)
    enter = [machines(number) for number in (1, 2)]
    urls = [url.replace("127.0.0.1", f"10.77.{number}.1") for number in (1, 2)]
    with start(folder, data, "--storage", urls[0], enter=enter[0]) as first:
        while not list(folder.glob("*/metrics.jsonl")):
            assert first.poll() is None
            time.sleep(0.05)
        cut = next(iter(folder.glob("*/metrics.jsonl"))).parent
        ip("link", "set", "search1", "down")
        with start(folder, data, "--storage", urls[1], enter=enter[1]) as second:
            said, _ = second.communicate(timeout=400)
            assert second.returncode == 0, said
        lost, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "the connection to the database was lost" in lost
    # The other machine finished it.
    assert f"lr={compact(float(cut.name.removeprefix('lr=')))} " in said
    assert len(rows(cut)) == 150
    assert len(trials(folder)) == 4
    assert outcomes(folder) == outcomes(quiet)
