"""A Slurm of two nodes on this machine, for tests: munged, slurmctld and two slurmd.

Everything it needs and leaves lies in one folder. `python tests/helpers/start_slurm.py FOLDER`
starts it and runs until it is interrupted; commands such as sbatch find it by
SLURM_CONF=FOLDER/slurm.conf.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository's root

from tests.helpers.processes import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
SETTINGS = """\
ClusterName=test
SlurmctldHost={host}
SlurmctldPort=17000
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/linear
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=1
PartitionName=usual Nodes=n1,n2 PriorityTier=1 Default=YES
PartitionName=urgent Nodes=n1,n2 PriorityTier=2
"""


def missing() -> str | None:
    """Say why no Slurm can be started here; None if one can."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "slurmd starts jobs as root only"


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run Slurm inside the block; yields the environment that its commands need."""
    folder = folder.resolve()
    for name in ("munge", "state", "n1", "n2"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o755)
    key, conf = folder / "munge" / "key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    conf.write_text(SETTINGS.format(host=socket.gethostname(), user="root", folder=folder))
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    environment = os.environ | {"SLURM_CONF": str(conf), "PATH": path}
    places = [f"--{name}={folder}/munge/{name}" for name in ("socket", "pid-file", "seed-file")]
    places += [f"--key-file={key}"]
    commands = [
        ["munged", "--foreground", "--force", *places],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    started: list[Any] = []
    try:
        for i, command in enumerate(commands):
            with (folder / f"{i}-{command[0]}.out").open("wb") as out:
                started.append(
                    subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
                )
            if command[0] == "munged":
                wait_for((folder / "munge" / "socket").exists)
        state = ["sinfo", "-h", "-p", "usual", "-o", "%T"]
        wait_for(lambda: told(environment, *state) == "idle", every=0.1)
        yield environment
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def told(environment: dict[str, str], *command: str) -> str:
    """Return what a command of Slurm prints."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    with slurm(Path(sys.argv[1])):
        print(f"export SLURM_CONF={Path(sys.argv[1]).resolve()}/slurm.conf", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
