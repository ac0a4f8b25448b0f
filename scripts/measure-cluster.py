#!/usr/bin/env python3
"""What PostgreSQL, further processes and Hatchet cost, beside the embedded store.

Starts a PostgreSQL of its own (it syncs to the disk as a real one does), and in turns the set-ups that
are compared, each with a fresh schema or data folder, drives them with `turnkeep bench`, and prints
for each round the turns a second, what the answers took and the CPU time a turn of everybody who took
part. Everything runs on this machine.

Usage: scripts/measure-cluster.py stores|processes|hatchet|takeover [--rounds 3] [--seconds 30]
           [--users 1000] [--delay-ms 50] [--rate R] [--binary target/release/turnkeep]

stores      the embedded store, and PostgreSQL with a server that runs its turns itself
processes   one server and two; a gateway and a worker, and one more of each
hatchet     a gateway and a worker without an engine and with one (scripts/cluster-setup.sh builds it;
            the binary needs `--features hatchet`)
takeover    a server is killed with so many turns open (--users), and another one takes them up
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).parents[1]
ENGINE = ROOT / "target/tools/hatchet/0.104.7"
TENANT = "707d0855-80ab-4e1f-a156-f1c4546cbf52"
TICKS = os.sysconf("SC_CLK_TCK")
POSTGRES = "-c listen_addresses=127.0.0.1 -c max_connections=300 -c shared_buffers=256MB -c max_wal_size=4GB"

CONFIG = """
log_level = "info"

[gateway]
rate_limiting_enabled = false
abuse_detection_enabled = false

[agents.default]
kind = "echo"
delay_ms = {delay}
"""

STORE = """
[store]
kind = "postgres"
url_file = "postgres.url"
schema = "{schema}"
node = "{node}"
"""

HATCHET = """
[hatchet]
token_file = "{token}"
namespace = "{schema}"
"""

SETUPS = {
    "stores": {
        "embedded": ["serve"],
        "postgres": ["serve --role all"],
    },
    "processes": {
        "1 server": ["serve --role all"],
        "2 servers": ["serve --role all"] * 2,
        "1 gateway, 1 worker": ["serve --role gateway", "worker"],
        "2 gateways, 1 worker": ["serve --role gateway"] * 2 + ["worker"],
        "1 gateway, 2 workers": ["serve --role gateway"] + ["worker"] * 2,
    },
    "hatchet": {
        "without an engine": ["serve --role gateway", "worker"],
        "with an engine": ["serve --role gateway", "worker", "engine"],
    },
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, its threads and the children that it saw end."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


def children(pid: int) -> list[int]:
    tasks = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()]


class Postgres:
    """A server of its own, run by a user who isn't root."""

    def __init__(self, folder: pathlib.Path):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        self.programs = pathlib.Path(found[-1]).parent if found else pathlib.Path()
        self.folder, self.port = folder / "postgres", free_port()
        self.folder.mkdir()
        self.user = None
        if os.getuid() == 0:
            self.user = "nobody"
            os.chmod(folder, 0o755)
            os.chown(self.folder, pwd.getpwnam("nobody").pw_uid, -1)
        data = self.folder / "data"
        self.run("initdb", "-D", data, "-U", "turnkeep", "--auth=trust", "--encoding=UTF8", "--locale=C")
        options = f"-p {self.port} -k {self.folder} {POSTGRES}"
        self.run("pg_ctl", "-D", data, "-w", "-l", self.folder / "log", "-o", options, "start")
        self.pid = int((data / "postmaster.pid").read_text().split()[0])

    def run(self, program: str, *arguments: object) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        subprocess.run(command, user=self.user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://turnkeep@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def cpu(self, database: str) -> float:
        """Seconds of CPU of whoever works for a database; the rest is shared out to `postgres`."""
        total = cpu_of(self.pid) if database == "postgres" else 0.0
        for child in children(self.pid):
            try:
                title = pathlib.Path(f"/proc/{child}/cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if (" hatchet " in title) == (database == "hatchet"):
                total += cpu_of(child)
        return total

    def drop(self, schema: str) -> None:
        quiet = "SET client_min_messages = warning"
        self.run("psql", "-q", self.url(), "-c", quiet, "-c", f"DROP SCHEMA IF EXISTS {schema} CASCADE", "-c", "CHECKPOINT")

    def end(self) -> None:
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")


class Engine:
    """A Hatchet engine with a database on the same server."""

    def __init__(self, folder: pathlib.Path, postgres: Postgres):
        self.folder, port = folder / "engine", free_port()
        self.folder.mkdir()
        postgres.run("createdb", "-h", "127.0.0.1", "-p", postgres.port, "-U", "turnkeep", "hatchet")
        self.environment = os.environ | {
            "DATABASE_URL": postgres.url("hatchet"),
            "DATABASE_MAX_CONNS": "30",
            "SERVER_MSGQUEUE_KIND": "postgres",
            "SERVER_GRPC_INSECURE": "true",
            "SERVER_GRPC_BIND_ADDRESS": "127.0.0.1",
            "SERVER_GRPC_PORT": str(port),
            "SERVER_GRPC_BROADCAST_ADDRESS": f"127.0.0.1:{port}",
            "SERVER_HEALTHCHECK": "false",
            "SERVER_URL": "http://127.0.0.1:8080",
            "SERVER_AUTH_COOKIE_DOMAIN": "localhost",
            "SERVER_AUTH_COOKIE_INSECURE": "true",
            "SERVER_SECURITY_CHECK_ENABLED": "false",
            "SERVER_LOGGER_LEVEL": "warn",
            "DATABASE_LOGGER_LEVEL": "warn",
        }
        config = str(self.folder / "config")
        self.run("hatchet-migrate")
        self.run("hatchet-admin", "quickstart", "--skip", "certs", "--config", config, "--generated-config-dir", config)
        told = self.run(
            "hatchet-admin", "token", "create", "--config", config, "--tenant-id", TENANT, "--name", "measured"
        )
        self.token = self.folder / "token"
        self.token.write_text(told.splitlines()[-1] + "\n")
        self.token.chmod(0o600)
        log = (self.folder / "log").open("w")
        command = [str(ENGINE / "hatchet-engine"), "--config", config]
        self.process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        wait_for_port(port)

    def run(self, program: str, *arguments: str) -> str:
        command = [str(ENGINE / program), *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_for_port(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port} after a minute")


class Process:
    """A server or a worker."""

    def __init__(self, args: argparse.Namespace, home: pathlib.Path, command: str, config: str):
        home.mkdir()
        (home / "turnkeep.toml").write_text(config)
        if "url_file" in config:
            url = home / "postgres.url"
            url.write_text(args.postgres.url() + "\n")
            url.chmod(0o600)
        self.is_worker = command == "worker"
        words = [args.binary, *command.split(), "--listen", "127.0.0.1:0"]
        words += ["--config", str(home / "turnkeep.toml"), "--data-dir", str(home / "data")]
        log = (home / "log").open("w")
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"`{command}` did not start: {(home / 'log').read_text()}")
        self.address = line.removeprefix("listening on ").strip()

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def measure(args: argparse.Namespace, folder: pathlib.Path, number: int, commands: list[str]) -> dict:
    schema = f"measured{number}"
    has_engine = "engine" in commands
    processes = []
    for seat, command in enumerate(word for word in commands if word != "engine"):
        config = CONFIG.format(delay=args.delay_ms)
        if command != "serve":
            config += STORE.format(schema=schema, node=f"node{seat}")
        if has_engine:
            config += HATCHET.format(token=args.engine.token, schema=schema)
        processes.append(Process(args, folder / f"{schema}-{seat}", command, config))
    bench = [args.binary, "bench", "--json", "--users", str(args.users), "--delay-ms", str(args.delay_ms)]
    bench += ["--rate", str(args.rate)] if args.rate else []
    for process in processes:
        bench += [] if process.is_worker else ["--server", process.address]
    # The first turns make sessions, fill caches and let an engine find its workers.
    subprocess.run([*bench, "--duration", "5"], check=True, capture_output=True)

    def spent() -> dict[str, float]:
        return {
            "servers": sum(cpu_of(one.process.pid) for one in processes),
            "postgres": args.postgres.cpu("postgres") if args.postgres else 0.0,
            "engine": cpu_of(args.engine.process.pid) if has_engine else 0.0,
            "its postgres": args.postgres.cpu("hatchet") if has_engine else 0.0,
        }

    before = spent()
    told = subprocess.run([*bench, "--duration", str(args.seconds)], check=True, capture_output=True, text=True)
    if has_engine:
        # A run ends a moment after its turn.
        time.sleep(2)
    after = spent()
    for process in processes:
        process.end()
    if args.postgres:
        args.postgres.drop(schema)
    report = json.loads(told.stdout)
    turns = max(report["turns"], 1)
    report["cpu"] = {who: 1000 * (after[who] - before[who]) / turns for who in before}
    return report


def running(process: Process) -> int:
    """How many runs began there."""
    with urllib.request.urlopen(process.address + "/metrics") as told:
        lines = told.read().decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("turnkeep_runs_total "))


def until(what: str, done) -> None:
    end = time.monotonic() + 120
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"two minutes passed, and not {what}")
        time.sleep(0.02)


def take_over(args: argparse.Namespace, folder: pathlib.Path, number: int) -> str:
    """Kills a server with open turns; how long until another one begins them, and has begun all."""
    schema = f"measured{number}"

    def start(node: str) -> Process:
        config = CONFIG.format(delay=600_000) + STORE.format(schema=schema, node=node)
        return Process(args, folder / f"{schema}-{node}", "serve --role all", config)

    first, second = start("first"), start("second")
    bench = [args.binary, "bench", "--server", first.address, "--users", str(args.users)]
    subprocess.run([*bench, "--messages", "1", "--no-wait"], check=True, capture_output=True)
    until("all turns run", lambda: running(first) == args.users)
    first.end()
    killed = time.monotonic()
    until("the other server begins", lambda: running(second) > 0)
    begins = time.monotonic()
    until("the other server has begun all", lambda: running(second) == args.users)
    ends = time.monotonic()
    second.end()
    args.postgres.drop(schema)
    return (
        f"{args.users:,} open turns: the first is taken up {begins - killed:.1f} s after the kill, "
        f"the last {ends - begins:.1f} s after the first"
    )


def row(name: str, report: dict) -> str:
    cpu = ", ".join(f"{who} {ms:.3f}" for who, ms in report["cpu"].items() if ms > 0)
    client = report["client_cpu_ms_per_turn"] or 0
    batch = report["server"]["commits_per_batch"] or 0
    lost = {"refused": report["refused"], "errors": report["errors"]}
    return (
        f"{name:22} {report['turns_per_second']:8,.0f} turns/s  p50 {report['latency']['p50_ms']:7.1f} ms  "
        f"p99 {report['latency']['p99_ms']:7.1f} ms  commits a batch {batch:5.1f}  "
        f"CPU ms a turn: {cpu}, client {client:.3f}"
        + "".join(f"  {what} {which}" for what, which in lost.items() if which)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*SETUPS, "takeover"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--delay-ms", type=int, default=50)
    parser.add_argument("--rate", type=float, help="messages a second, whatever the answers do")
    parser.add_argument("--binary", default=str(ROOT / "target/release/turnkeep"))
    args = parser.parse_args()
    setups = SETUPS.get(args.what, {})
    args.postgres, args.engine = None, None
    with tempfile.TemporaryDirectory(prefix="turnkeep-measured-") as name:
        folder = pathlib.Path(name)
        try:
            args.postgres = Postgres(folder)
            if any("engine" in commands for commands in setups.values()):
                args.engine = Engine(folder, args.postgres)
            number = 0
            for turn in range(args.rounds):
                if args.what == "takeover":
                    print(f"{turn + 1}  {take_over(args, folder, turn)}", flush=True)
                for setup, commands in setups.items():
                    number += 1
                    print(f"{turn + 1}  {row(setup, measure(args, folder, number, commands))}", flush=True)
        finally:
            for one in (args.engine, args.postgres):
                if one:
                    one.end()


if __name__ == "__main__":
    main()
