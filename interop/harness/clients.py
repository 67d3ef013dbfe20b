"""The clients: for each its Debian packages, how it is built, and the programs that run its checks."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from .install import Package, step, up_to_date
from .paths import INTEROP, WORK

CHECKS = (
    "send_receive", "receipt", "commit", "abort", "ack_nack_individual", "durable_subscription", "heart_beats",
    "binary_body", "body_8mib", "utf8_headers", "bad_destination", "request_reply",
)
"""What every client is asked to do, in the order of the table's columns."""


@dataclass(frozen=True)
class Client:
    """A client library and the folder that shows how to use it with Millpond."""

    folder: str
    language: str
    packages: tuple[Package, ...]
    build: Callable[[], None]
    programs: dict[str, Callable[..., list]]
    """By name: the command line that runs all checks, given host, port and a prefix for queue names."""


def python(program, *arguments):
    return [WORK / "python/bin/python", INTEROP / "python" / program, *arguments]


def build_python():
    def install():
        step("python-venv", ["python3", "-m", "venv", WORK / "python"])
        step(
            "python-pip",
            [WORK / "python/bin/pip", "install", "--quiet", "-r", INTEROP / "python/requirements.txt"],
            env={"PIP_CACHE_DIR": str(WORK / "cache/pip")},
        )

    up_to_date(WORK / "python", INTEROP / "python/requirements.txt", install)


def maven_build(folder):
    """Compiles a folder with a pom.xml, and puts the jars it needs beside its classes."""
    target = WORK / folder

    def build():
        step(folder, [
            "mvn", "--batch-mode", "--quiet", "--file", INTEROP / folder / "pom.xml",
            f"-Dmaven.repo.local={WORK / 'cache/maven'}", f"-Dinterop.build={target}",
            "compile", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target / 'lib'}",
        ])

    up_to_date(target, INTEROP / folder, build)


def java(folder, main, *arguments):
    target = WORK / folder
    return ["java", "-cp", f"{target / 'classes'}:{target / 'lib'}/*", f"millpond.interop.{main}", *arguments]


def build_erlang():
    target = WORK / "erlang"

    def build():
        target.mkdir()
        step("erlang", ["erlc", "-Werror", "-o", target, *sorted((INTEROP / "erlang").glob("*.erl"))])

    up_to_date(target, INTEROP / "erlang", build)


def erlang(module, function, *arguments):
    return ["erl", "+fnu", "-noshell", "-pa", WORK / "erlang", "-run", module, function, *arguments]


def build_node(folder):
    """The modules are looked for beside the program that imports them, so the program goes to where they are."""
    target = WORK / folder

    def install():
        shutil.copytree(INTEROP / folder, target, ignore=shutil.ignore_patterns("node_modules"))
        step(folder, ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"],
             cwd=target, env={"npm_config_cache": str(WORK / "cache/npm")})

    up_to_date(target, INTEROP / folder, install)


def build_go():
    def build():
        step("go", ["go", "build", "-o", WORK / "go/checks", "."], cwd=INTEROP / "go", env={
            "GOPATH": str(WORK / "cache/go"), "GOCACHE": str(WORK / "cache/go-build"),
            # Modules are made writable, so that deleting the work folder needs no special care.
            "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local",
        })

    up_to_date(WORK / "go", INTEROP / "go", build)


JDK = (Package("openjdk-17-jdk-headless", ("javac",)), Package("maven", ("mvn",)))
NODE = (Package("nodejs", ("node",)), Package("npm", ("npm",)))

CLIENTS = (
    Client("python", "Python", (), build_python, {
        f"python {version}": lambda *where, version=version: python("checks.py", *where, version)
        for version in ("1.0", "1.1", "1.2")
    }),
    Client("java-client", "Java", JDK, lambda: maven_build("java-client"), {
        "java-client": lambda *where: java("java-client", "Checks", *where),
    }),
    Client("java-spring", "Java, Spring", JDK, lambda: maven_build("java-spring"), {
        "java-spring": lambda *where: java("java-spring", "Checks", *where),
    }),
    Client("erlang", "Erlang", (Package("erlang-base", ("erl",)),), build_erlang, {
        "erlang": lambda *where: erlang("checks", "main", *where),
    }),
    Client("stompit", "JavaScript", NODE, lambda: build_node("stompit"), {
        "stompit": lambda *where: ["node", WORK / "stompit/checks.mjs", *where],
    }),
    Client("stompjs", "JavaScript", NODE, lambda: build_node("stompjs"), {
        "stompjs": lambda *where: ["node", WORK / "stompjs/checks.mjs", *where],
    }),
    Client("ruby", "Ruby", (Package("ruby", ("ruby",)), Package("ruby-stomp", ("ruby", "-e", "require 'stomp'"))),
           lambda: None, {
        "ruby": lambda *where: ["ruby", INTEROP / "ruby/checks.rb", *where],
    }),
    Client("go", "Go", (Package("golang-go", ("go",)),), build_go, {
        "go": lambda *where: [WORK / "go/checks", *where],
    }),
    Client("nc", "a person typing",
           (Package("netcat-openbsd", ("nc.openbsd",)), Package("inetutils-telnet", ("telnet",))), lambda: None, {
        tool: lambda *where, tool=tool: ["python3", "-B", INTEROP / "nc/checks.py", *where, tool]
        for tool in ("telnet", "nc")
    }),
)
