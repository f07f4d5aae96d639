"""A cluster described by an address or a YAML file, and a Dask client of it.

Whoever reaches a Dask scheduler runs code with its rights, and rows and keys travel to it: an
address ``dask://`` belongs on a trusted network, elsewhere use ``tls``. A cluster of our own on
Slurm is encrypted, and lets in only who holds the certificate of this one run.
"""

import logging
import math
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from medssl.config.base import Config
from medssl.config.load import load, validate
from medssl.errors import ConfigError, MedSSLError

if TYPE_CHECKING:  # an extra, and slow to import
    from distributed import Client, Security

_log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"dask://(?P<host>[^/\s:]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})/?")


class TlsConfig(Config):
    """Files in PEM format that scheduler, workers and this machine trust."""

    ca_file: Path
    """Certificate of the authority that signed the others."""
    certificate: Path
    """Certificate of this machine."""
    key: Path
    """Its private key."""


class SchedulerConfig(Config):
    """A Dask scheduler that runs already; give its workers one thread each (``--nthreads 1``)."""

    address: Annotated[str, Field(pattern=r"^(tcp|tls)://[^/\s]+:[0-9]{1,5}$")]
    """``tcp://host:port``, or ``tls://host:port`` with `tls`."""
    tls: TlsConfig | None = None
    """Encrypts, and lets in only who holds a certificate."""
    wait_s: Annotated[float, Field(gt=0)] = 60.0
    """How long to wait for the scheduler, and for its first worker."""

    @model_validator(mode="after")
    def _encrypted_both_or_neither(self) -> Self:
        if self.address.startswith("tls://") != (self.tls is not None):
            raise ValueError("an address tls:// needs the section tls, and that such an address")
        return self


class SlurmConfig(Config):
    """Jobs of a Slurm cluster, started for one run and cancelled at its end."""

    jobs: Annotated[int, Field(ge=1)] = 4
    """At most so many jobs at a time."""
    adaptive: bool = False
    """Start with one job, and add others while work waits; else all at once."""
    processes: Annotated[int, Field(ge=1)] = 4
    """Worker processes per job, with one core each."""
    memory: str = "16GB"
    """Memory of one job, shared by its processes."""
    walltime: str = "04:00:00"
    """A job is ended after so long, and replaced while work is left."""
    queue: str | None = None
    """Partition. Default: the cluster's own."""
    account: str | None = None
    """Who is charged."""
    directives: tuple[str, ...] = ()
    """Further ``#SBATCH`` lines, such as ``--constraint=ssd``."""
    setup: tuple[str, ...] = ()
    """Shell lines before a worker starts, such as ``module load python``."""
    python: str | None = None
    """Python of the nodes. Default: the one that runs this."""
    interface: str | None = None
    """Network interface by which nodes reach this machine, such as ``ib0``."""
    folder: Path = Path("~/.medssl/slurm")
    """For the certificate of a run and the jobs' logs. Every node must see it."""
    scratch: str | None = None
    """Fast folder of the node. Default: its temporary folder."""


class ClusterConfig(Config):
    """One kind of cluster."""

    scheduler: SchedulerConfig | None = None
    """A scheduler that runs already."""
    slurm: SlurmConfig | None = None
    """Jobs of our own."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.scheduler is None) == (self.slurm is None):
            raise ValueError("should have one section, scheduler or slurm")
        return self


def read_cluster(workers: str) -> ClusterConfig:
    """Return what ``workers`` describes: ``dask://host:port``, or a YAML file.

    Raises:
        ConfigError: it is neither, something in the file is wrong, or the packages are missing.
    """
    _check_installed()
    if "://" not in workers and workers.endswith((".yaml", ".yml")):
        return load(ClusterConfig, Path(workers))
    found = _ADDRESS.fullmatch(workers)
    if found is None:
        raise ConfigError(
            f"workers: should be a number, inline, dask://host:port or a .yaml file, found "
            f"{workers!r}"
        )
    address = f"tcp://{found['host']}:{found['port']}"
    return validate(ClusterConfig, {"scheduler": {"address": address}}, where=workers)


def _check_installed() -> None:
    if any(find_spec(package) is None for package in ("distributed", "dask_jobqueue")):
        raise ConfigError(
            "workers on a cluster need packages that are not installed here",
            hint="pip install 'medssl[cluster]'",
        )


@contextmanager
def open_client(cluster: ClusterConfig, rows: int) -> "Iterator[Client]":
    """Yield a client of ``cluster`` with at least one worker; for ``rows`` rows of work.

    Raises:
        MedSSLError: the scheduler cannot be reached, has no workers, or Slurm refuses the job.
    """
    import dask

    settings = {"distributed.diagnostics.erred-tasks.max-history": 0}  # they would hold rows
    with dask.config.set(settings):
        if cluster.slurm is not None:
            with _slurm_client(cluster.slurm, rows) as client:
                yield client
        elif cluster.scheduler is not None:
            with _client_of(cluster.scheduler) as client:
                yield client


@contextmanager
def _client_of(config: SchedulerConfig) -> "Iterator[Client]":
    from distributed import Client

    try:
        client = Client(config.address, timeout=config.wait_s, security=_security(config.tls))
    except OSError:
        raise MedSSLError(
            f"no Dask scheduler answers at {config.address}",
            hint="is it running, and does the network let this machine reach it?",
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=config.wait_s)
        except TimeoutError:
            raise MedSSLError(
                f"the Dask scheduler at {config.address} has no workers",
                hint=f"start some: dask worker {config.address} --nthreads 1 --nworkers 4",
            ) from None
        yield client


def _security(tls: TlsConfig | None) -> "Security | None":
    from distributed import Security

    if tls is None:
        return None
    for path in (tls.ca_file, tls.certificate, tls.key):
        if not path.is_file():
            raise MedSSLError(f"there is no file {path}", hint="see scheduler.tls")
    return Security(
        tls_ca_file=str(tls.ca_file),
        tls_client_cert=str(tls.certificate),
        tls_client_key=str(tls.key),
        require_encryption=True,
    )


@contextmanager
def _slurm_client(config: SlurmConfig, rows: int) -> "Iterator[Client]":
    from distributed import Client

    jobs = min(config.jobs, math.ceil(rows / config.processes))
    with slurm_cluster(config) as cluster, Client(cluster) as client:
        _check_accepted(cluster.job_script())
        cluster.adapt(minimum_jobs=1 if config.adaptive else jobs, maximum_jobs=jobs, interval="2s")
        _log.info("Waiting for the first Slurm job to start")
        client.wait_for_workers(1)
        yield client


def _check_accepted(script: str) -> None:
    """Raise where Slurm would refuse the job, for which Dask would wait forever."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise MedSSLError(
            "there is no sbatch on this machine", hint="run it where Slurm jobs are submitted"
        )
    said = subprocess.run(  # noqa: S603  what will run in earnest a moment later
        [sbatch, "--test-only"], input=script, capture_output=True, text=True, check=False
    )
    if said.returncode:
        raise MedSSLError(
            f"Slurm refuses the job: {said.stderr.strip()}", hint="see the settings of slurm"
        )


def _new_certificate(folder: Path) -> "Security":
    """Return what lets in the processes of this run only; kept in ``folder``, for its jobs."""
    from distributed import Security

    made = Security.temporary().get_tls_config_for_role("worker")
    paths = {name: folder / f"{name}.pem" for name in ("ca_file", "cert", "key")}
    for name, path in paths.items():
        path.touch(mode=0o600)
        path.write_text(made[name], encoding="ascii")
    own = {
        f"tls_{role}_{name}": str(paths[name])
        for role in ("scheduler", "worker", "client")
        for name in ("cert", "key")
    }
    return Security(tls_ca_file=str(paths["ca_file"]), require_encryption=True, **own)


@contextmanager
def slurm_cluster(config: SlurmConfig) -> Iterator[Any]:
    """Yield the ``SLURMCluster`` that ``config`` describes, without jobs; they end with it."""
    import dask
    from dask_jobqueue.slurm import SLURMCluster

    folder = config.folder.expanduser().absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = {
        "distributed.scheduler.allowed-failures": 1,  # a row that kills two workers is bad
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with (
        dask.config.set(settings),
        TemporaryDirectory(prefix="certificate-", dir=folder) as certificate,
        SLURMCluster(
            queue=config.queue,
            account=config.account,
            cores=config.processes,
            processes=config.processes,
            memory=config.memory,
            walltime=config.walltime,
            job_name="medssl",
            job_extra_directives=list(config.directives),
            job_script_prologue=["umask 077", "ulimit -c 0", *config.setup],
            python=config.python,
            interface=config.interface,
            local_directory=config.scratch,
            log_directory=str(folder),
            security=_new_certificate(Path(certificate)),
            protocol="tls://",
            scheduler_options={"dashboard_address": "127.0.0.1:0", "dashboard": False},
            worker_extra_args=["--no-dashboard"],
        ) as cluster,
    ):
        yield cluster
