"""The Spark settings of a cluster: one place for the master, the workers and the applications.

Each setting is explained at https://spark.apache.org/docs/4.1.0/configuration.html,
…/security.html and …/spark-standalone.html. The functions know nothing of where the
cluster runs: addresses, ports, paths and secrets come in one dataclass.
"""

import base64
import secrets as random_secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_UI_FILTER = "org.apache.spark.ui.JWSFilter"
_SECRET_BYTES = 32
HISTORY_PORT = 18080


@dataclass(frozen=True)
class Secrets:
    """The secrets of one cluster; `repr` does not show them.

    `rpc` is the shared secret of all Spark channels (64 hexadecimal digits);
    `ui_key` the key that signs the tokens for the web pages (HMAC-SHA-256,
    Base64URL, as JWSFilter reads it).
    """

    rpc: str = field(repr=False)
    ui_key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class WorkerSize:
    """What a worker offers: cores, and the Java memory of the executor that fills it.

    `gpus`: how many, where that is asked for.
    """

    cores: int
    memory_mib: int
    gpus: int = 0


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What the Spark settings of a cluster depend on.

    `host` is the master's address, `driver_host` the one at which executors
    reach the driver, `worker_hosts` the addresses that the workers are at, `python` the
    interpreter of the executors, `vectors` the directory of word tables on each host,
    `events` the directory of the applications' event logs (None: none are written),
    `driver_ui` whether a driver shows its web page (it needs SPARK_LOCAL_IP, see
    `client_settings`).
    """

    host: str
    master_port: int
    driver_host: str
    workers: tuple[WorkerSize, ...]
    worker_hosts: tuple[str, ...]
    vectors: str
    recovery_directory: str
    python: str
    secrets: Secrets
    events: str | None = None
    driver_ui: bool = False

    @property
    def master_url(self) -> str:
        """The URL for workers and applications."""
        return f"spark://{self.host}:{self.master_port}"


def new_secrets() -> Secrets:
    """Two fresh random secrets of 32 bytes each."""
    key = random_secrets.token_bytes(_SECRET_BYTES)
    return Secrets(
        rpc=random_secrets.token_hex(_SECRET_BYTES),
        ui_key=base64.urlsafe_b64encode(key).decode(),
    )


def master_settings(cluster: ClusterSettings) -> dict[str, str]:
    """The settings of the master daemon."""
    return {
        **_security(cluster.secrets),
        **_daemon(),
        # Without recovery an application hangs for ever after a restart of the master.
        "spark.deploy.recoveryMode": "FILESYSTEM",
        "spark.deploy.recoveryDirectory": cluster.recovery_directory,
        "spark.deploy.recoveryTimeout": "10",
        # An application that does not say how much it wants gets one worker's worth,
        # not the whole cluster.
        "spark.deploy.defaultCores": str(max(worker.cores for worker in cluster.workers)),
        # No page of the master takes workers out of it.
        "spark.master.ui.decommission.allow.mode": "DENY",
    }


def worker_settings(cluster: ClusterSettings, *, worker: str) -> dict[str, str]:
    """The settings of one worker daemon; its name becomes the start of its id in the master."""
    return {
        **_security(cluster.secrets),
        **_daemon(),
        "spark.worker.idPattern": f"{worker}-%s-%s-%d",
        # What executors of ended applications left behind goes after a week.
        "spark.worker.cleanup.enabled": "true",
        "spark.worker.cleanup.interval": "1800",
        "spark.worker.cleanup.appDataTtl": str(7 * 24 * 3600),
        # An executor of weeks, a stream's, would fill the disk with its messages.
        "spark.executor.logs.rolling.strategy": "size",
        "spark.executor.logs.rolling.maxSize": str(16 << 20),
        "spark.executor.logs.rolling.maxRetainedFiles": "3",
        # SIGPWR drains a worker: it takes no new tasks and hands its blocks on.
        "spark.decommission.enabled": "true",
    }


def gpu_settings(addresses: Sequence[str], *, resources: str) -> dict[str, str]:
    """What a worker that offers GPUs has besides; `resources` is the file with their addresses."""
    if not addresses:
        return {}
    return {
        "spark.worker.resource.gpu.amount": str(len(addresses)),
        "spark.worker.resourcesFile": resources,
    }


def history_settings(cluster: ClusterSettings) -> dict[str, str]:
    """The settings of the history server, which shows applications after their end."""
    return {
        **_security(cluster.secrets),
        **_daemon(),
        "spark.history.fs.logDirectory": f"file://{cluster.events}",
        "spark.history.ui.port": str(HISTORY_PORT),
        "spark.history.fs.cleaner.enabled": "true",
        "spark.history.fs.cleaner.maxAge": "30d",
    }


def client_settings(cluster: ClusterSettings) -> dict[str, str]:
    """All that a driver needs to run an application on every worker of the cluster."""
    return {
        "spark.master": cluster.master_url,
        **_security(cluster.secrets),
        "spark.driver.host": cluster.driver_host,
        "spark.driver.bindAddress": cluster.driver_host,
        # A driver's web server listens on every interface unless SPARK_LOCAL_IP says
        # otherwise, which no setting can: it stays off where drivers may lack that.
        **({} if cluster.driver_ui else {"spark.ui.enabled": "false", "spark.ui.port": "0"}),
        **_event_log(cluster.events),
        "spark.ui.showConsoleProgress": "false",
        "spark.pyspark.python": cluster.python,
        # For our own job: which hosts must have a word table, and where it is on each.
        "spark.sparkbundle.hosts": ",".join(sorted(set(cluster.worker_hosts))),
        "spark.executorEnv.SPARKBUNDLE_VECTORS": cluster.vectors,
        # CUDA counts the GPUs as nvidia-smi does, whose numbers the workers offer.
        "spark.executorEnv.CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **_executors(cluster.workers),
        # Work begins when all workers are in, not when the first one is: shards are
        # then spread evenly. It counts against spark.cores.max.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        # A host that is gone does not refuse a connection: each try would wait two minutes for it.
        "spark.shuffle.io.connectionCreationTimeout": "15s",
        # A worker that is drained: its executor ends when its tasks have, and hands on its blocks.
        "spark.decommission.enabled": "true",
        "spark.storage.decommission.enabled": "true",
    }


def _event_log(events: str | None) -> dict[str, str]:
    if events is None:
        return {}
    return {"spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file://{events}"}


def _executors(workers: tuple[WorkerSize, ...]) -> dict[str, str]:
    """Executors that use every core of every worker."""
    settings = {
        "spark.cores.max": str(sum(worker.cores for worker in workers)),
        # A worker with less memory than an executor asks for would never be used.
        "spark.executor.memory": f"{min(worker.memory_mib for worker in workers)}m",
    }
    if len({worker.cores for worker in workers}) == 1:
        settings["spark.executor.cores"] = str(workers[0].cores)
    # Uneven workers: without the setting an executor takes all the cores of its worker.
    return settings


def render_properties(settings: Mapping[str, str]) -> str:
    """The text of a properties file, as java.util.Properties reads it.

    Raises:
        ValueError: a value has a line break, which no setting of ours has.
    """
    lines = []
    for key, value in sorted(settings.items()):
        if "\n" in value or "\r" in value:
            raise ValueError(f"{key} has a line break in its value")
        lines.append(f"{key}={value.replace(chr(92), chr(92) * 2)}\n")
    return "".join(lines)


def _security(secrets: Secrets) -> dict[str, str]:
    return {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secrets.rpc,
        "spark.network.crypto.enabled": "true",
        # The default, AES-CTR, does not notice a changed byte.
        "spark.network.crypto.cipher": "AES/GCM/NoPadding",
        "spark.network.crypto.saslFallback": "false",
        "spark.ui.filters": _UI_FILTER,
        f"spark.{_UI_FILTER}.param.secretKey": secrets.ui_key,
        # A token that was overheard is of use for a minute only.
        f"spark.{_UI_FILTER}.param.requireExpiration": "true",
        "spark.ui.killEnabled": "false",
    }


def _daemon() -> dict[str, str]:
    return {
        # The REST submission server knows no authentication.
        "spark.master.rest.enabled": "false",
        # A port that is taken is an error, not a reason to listen elsewhere in silence.
        "spark.port.maxRetries": "0",
        # A worker of which nothing was heard for so many seconds is lost, and what it did is done
        # again elsewhere. The master looks once in that time, so it may take twice as long.
        "spark.worker.timeout": "30",
    }
