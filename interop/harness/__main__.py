"""Installs, runs and reports: see `interop/run --help`."""

import argparse
import contextlib
import functools
import secrets
import sys
import time
from pathlib import Path

from . import broker, clients, pairs, results
from .install import InstallError, debian_packages
from .paths import WORK
from .programs import finish, start

SECTIONS = [client.folder for client in clients.CLIENTS] + ["pairs"]


def options():
    parser = argparse.ArgumentParser(
        prog="interop/run",
        description="Drives unmodified STOMP clients against a freshly started Millpond and writes interop/RESULTS.md.",
    )
    parser.add_argument("--broker", type=Path, metavar="PATH", help="the millpond program; built if not given")
    parser.add_argument("--only", action="append", choices=SECTIONS, metavar="NAME",
                        help=f"run only this section (may be repeated; writes no table): {', '.join(SECTIONS)}")
    parser.add_argument("--connect", metavar="HOST:PORT",
                        help="drive a broker that is already running, for comparison (writes no table)")
    return parser.parse_args()


@contextlib.contextmanager
def section(name):
    began = time.monotonic()
    print(f"== {name}", flush=True)
    try:
        yield
    finally:
        print(f"   {name}: {time.monotonic() - began:.1f} s", flush=True)


def broker_for(wanted):
    """What is called with a section's name to get a broker for it."""
    if wanted.connect:
        host, _, port = wanted.connect.rpartition(":")

        def running(_name):
            return contextlib.nullcontext((host, int(port)))

        return running
    if wanted.broker:
        return functools.partial(broker.Broker, wanted.broker.resolve())
    with section("build the broker"):
        return functools.partial(broker.Broker, broker.build())


def install(selected):
    """Returns, by folder, why a client could not be installed."""
    failed = {}
    with section("install Debian packages"):
        try:
            debian_packages([package for client in selected for package in client.packages])
        except InstallError as failure:
            # Whatever is missing shows again when its client is built.
            print(f"   {failure}")
    for client in selected:
        with section(f"install {client.folder}"):
            try:
                client.build()
            except InstallError as failure:
                failed[client.folder] = f"could not be installed: {failure}"
                print(f"   {failure}")
    return failed


def run_client(client, name, program, serve, broken):
    row = results.Row(client.folder, client.language)
    with section(name):
        if broken:
            row.fail(broken)
        else:
            try:
                with serve(name) as (host, port):
                    row.read(*finish(start(name, program(host, str(port), prefix(name)))))
            except (broker.BrokerError, OSError) as failure:
                row.fail(str(failure))
        print(*(f"   {line}" for line in row.lines()), sep="\n", flush=True)
    return row


def run_pairs(serve, broken):
    done = {}
    with section("pairs"):
        try:
            if broken:
                raise broker.BrokerError(broken)
            with serve("pairs") as (host, port):
                for pair, result in pairs.run(host, port, prefix("pairs")):
                    done[pair] = result
                    print(f"   {result.outcome} {' -> '.join(pair)} {result.why}".rstrip(), flush=True)
        except (broker.BrokerError, OSError) as failure:
            print(f"   FAIL pairs: {failure}", flush=True)
            return dict.fromkeys(pairs.PAIRS, results.Result("FAIL", str(failure)))
    return done


def prefix(name):
    """For the names of queues: a broker that is already running may know those of an earlier run."""
    return f"interop.{name.replace(' ', '-').replace('.', '')}.{secrets.token_hex(3)}"


def main():
    wanted = options()
    names = wanted.only or SECTIONS
    selected = [c for c in clients.CLIENTS if c.folder in names or ("pairs" in names and c.folder in pairs.FOLDERS)]
    (WORK / "tmp").mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    serve = broker_for(wanted)
    failed = install(selected)
    rows = [
        run_client(client, name, program, serve, failed.get(client.folder))
        for client in selected if client.folder in names
        for name, program in client.programs.items()
    ]
    exchanged = {}
    if "pairs" in names:
        exchanged = run_pairs(serve, next((failed[folder] for folder in pairs.FOLDERS if folder in failed), None))
    if not wanted.only and not wanted.connect:
        results.write_table(rows, exchanged)

    outcomes = [result.outcome for row in rows for result in row.results.values()]
    outcomes += [result.outcome for result in exchanged.values()]
    print(f"== {time.monotonic() - began:.1f} s in all, {outcomes.count('N/A')} checks not applicable")
    print(f"{outcomes.count('PASS')} passed, {outcomes.count('FAIL')} failed")
    return 1 if "FAIL" in outcomes else 0


sys.exit(main())
