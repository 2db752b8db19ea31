"""A SLURM of this host alone, with configuration, ports and files of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ('slurm-wlm', 'munge')
CONFIG = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
ReturnToService=2
KillWait=10
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def install() -> None:
    """Install what is missing of SLURM."""
    if not all(shutil.which(name) for name in ('slurmctld', 'slurmd', 'sbatch', 'munged')):
        subprocess.run(['apt-get', 'update', '-qq'], check=True)
        subprocess.run(['apt-get', 'install', '-y', '-qq', '--no-install-recommends', *PACKAGES], check=True)


class Slurm:
    """One controller, one node, and their munge; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Files go to `folder`, which every user must be able to enter."""
        self._folder, self._host = folder, socket.gethostname().partition('.')[0]
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {'SLURM_CONF': str(folder / 'slurm.conf')}

    def __enter__(self) -> 'Slurm':
        """Start the daemons; wait until the node takes jobs."""
        folder = self._folder
        for name in ('state', 'spool'):
            (folder / name).mkdir()
        (folder / 'slurm.conf').write_text(CONFIG.format(folder=folder, host=self._host, ports=free_ports(2)))
        key = folder / 'munge.key'
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        munge = [
            'munged', '--foreground', '--force', f'--socket={folder}/munge.socket', f'--key-file={key}',
            f'--pid-file={folder}/munge.pid', f'--log-file={folder}/munge.log', f'--seed-file={folder}/munge.seed',
        ]  # fmt: skip
        for words in (munge, ['slurmctld', '-D'], ['slurmd', '-D', '-N', self._host]):
            with (folder / f'{words[0]}.out').open('wb') as out:
                process = subprocess.Popen(words, env=self._env(), stdout=out, stderr=out)
            self._daemons.append(process)
            if words[0] == 'munged':
                wait_for(lambda: (folder / 'munge.socket').exists(), 'munge')
        wait_for(lambda: self.run('sinfo', '-h', '-o', '%T', check=False).strip() == 'idle', 'the node')
        return self

    def __exit__(self, *_: object) -> None:
        """End all jobs, then the daemons."""
        self.run('scancel', '--user=root', check=False)
        for process in reversed(self._daemons):
            process.terminate()
        for process in self._daemons:
            process.wait(timeout=30)

    def run(self, *words: str, check: bool = True, **environment: str) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(words, env=self._env(**environment), capture_output=True, text=True)
        assert done.returncode == 0 or not check, f'{words}: {done.stderr}'
        return done.stdout

    def state(self, job: str) -> str:
        """The state of a job, such as RUNNING; empty where SLURM has forgotten it."""
        return self.run('squeue', '-h', '-t', 'all', '-j', job, '-o', '%T', check=False).strip()

    def _env(self, **more: str) -> dict[str, str]:
        return {**os.environ, **self.environment, **more}


def wait_for(happened: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Look until something has happened; fails with its name."""
    limit = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < limit, f'{what}: not there after {seconds:.0f} s'
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    servers = [socket.socket() for _ in range(count)]
    for server in servers:
        server.bind(('127.0.0.1', 0))
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports
