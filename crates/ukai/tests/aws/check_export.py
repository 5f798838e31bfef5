#!/usr/bin/env python3
"""Holds exported alarms against tools that are not ours.

The alarms are a representative dozen (the example `exchange`) and the defaults of a peer, as `ukai alarms export` prints
them. cfn-lint reads the template; the AWS CLI puts every alarm into MiniStack and into LocalStack and reads it back, field by
field; what `describe-alarms` prints there is imported again. Emulators run in a network namespace with nothing but a
loopback interface, so that nothing can leave this machine, whatever they listen on. Tools are installed from PyPI into
`target/aws`. An emulator that cannot run here is skipped with a line that says why.

Exit: 0 all is well, 1 something of ours was refused or came back different, 2 the check itself could not run.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
TOOLS = ["ministack==1.5.33", "cbor2", "awscli==1.46.3", "cfn-lint==1.58.0"]
# Without these pins it dies at import or when it sets up TLS.
LOCALSTACK = [
    "localstack-core[runtime]==4.14.0",
    "pyopenssl==25.3.0",
    "cryptography<47",
    "service_identity",
    "cbor2<5.8",
]
LOCALSTACK_PYTHON = (3, 13)
INSTALL_MAX_S, START_MAX_S, CALL_MAX_S, BUILD_MAX_S = 600, 90, 60, 900
TOPIC = "arn:aws:sns:us-east-1:000000000000:ops"
PORTS = {"ministack": 14653, "localstack": 14654}

# What an emulator does otherwise than CloudWatch: in which step, with which field, what is seen, and why it is its
# limit. Anything else is our fault.
LIMITS: dict[str, list[tuple[str, str, str, str]]] = {
    "ministack": [
        ("read", "Metrics", "None", "it forgets Metrics"),
        ("read", "ThresholdMetricId", "None", "it forgets ThresholdMetricId"),
        ("read", "EvaluateLowSampleCountPercentile", "None", "it forgets EvaluateLowSampleCountPercentile"),
        ("read", "EvaluationWindow", "None", "it does not know EvaluationWindow"),
        ("read", "ActionsSuppressor", "None", "it does not know suppressors"),
        ("read", "ActionsSuppressorWaitPeriod", "None", "it does not know suppressors"),
        ("read", "ActionsSuppressorExtensionPeriod", "None", "it does not know suppressors"),
        ("import", "", "MetricName: it is missing, and so are Metrics", "it forgets Metrics"),
        ("import", "TreatMissingData", "'missing'", "it prints the default where nothing was put"),
    ],
    "localstack": [
        ("put", "put-metric-alarm", "TM(10%:90%) for parameter ExtendedStatistic", "it knows percentiles only"),
        ("read", "EvaluationWindow", "None", "it does not know EvaluationWindow"),
        ("stack", "EvaluationWindow", "None", "it does not know EvaluationWindow"),
    ],
}

def main() -> int:
    arguments = parsed()
    if arguments.inside:
        return inside(arguments)
    work = arguments.target / "aws"
    work.mkdir(parents=True, exist_ok=True)
    tools = installed(work / "tools", sys.executable, TOOLS)
    exchange = exchange_command(arguments)
    inputs, template = with_defaults(*exported(arguments, exchange, work), arguments, work)
    failures = lint(tools, template)
    localstack = None if arguments.without_localstack else install_localstack(work)
    files = ["--json", str(inputs), "--template", str(template), "--target", str(arguments.target)]
    again = [sys.executable, __file__, "--inside", *files, "--exchange", *exchange]
    return max(failures, in_namespace(again, localstack is not None))


# No peer and no server is asked for anything that could be reached.
DAEMON = """
data_dir = "data"
resolver = ["127.0.0.1:9"]
independent = ["127.0.0.1:9"]
root_hints = ["127.0.0.1"]
authority_port = 9
controls = "none"

[[peer]]
name = "api"
urls = ["https://api.peer.test/health"]
"""


def defaults(ukai: str) -> tuple[list[dict], dict]:
    """The default alarms of a peer, as a running daemon exports them: the list, and the template."""
    with tempfile.TemporaryDirectory() as place:
        config = Path(place) / "ukai.toml"
        config.write_text(DAEMON)
        where = ["--data-dir", str(Path(place) / "data")]
        process = subprocess.Popen([ukai, "run", "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_MAX_S
            while subprocess.run([ukai, "status", *where], capture_output=True).returncode != 0:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise OSError("the daemon does not answer")
                time.sleep(0.1)
            export = [ukai, "alarms", "export", *where]

            def text(*words: str) -> str:
                return subprocess.run([*export, *words], check=True, capture_output=True, text=True).stdout

            return json.loads(text("--topic", TOPIC)), json.loads(text("--format", "cloudformation"))
        finally:
            process.terminate()
            process.wait(timeout=START_MAX_S)


def with_defaults(inputs: Path, template: Path, arguments: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """Both in one list and in one template."""
    alarms, document = defaults(ukai_command(arguments))
    print(f"ukai alarms export: {len(alarms)} default alarms", flush=True)
    whole = json.loads(template.read_text())
    twice = whole["Resources"].keys() & document["Resources"].keys()
    if twice or not alarms or len(alarms) != len(document["Resources"]):
        raise OSError(f"the two lists do not fit together: {sorted(twice)}, {len(alarms)} alarms")
    whole["Resources"] |= document["Resources"]
    both = work / "both.json", work / "both.template.json"
    both[0].write_text(json.dumps(json.loads(inputs.read_text()) + alarms))
    both[1].write_text(json.dumps(whole))
    return both


def ukai_command(arguments: argparse.Namespace) -> str:
    if arguments.ukai:
        return str(arguments.ukai)
    build = ["cargo", "build", "--quiet", "--locked", "-p", "ukai"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(arguments.target)}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, timeout=BUILD_MAX_S)
    return str(arguments.target / "debug/ukai")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="exported inputs (default: those of the example `exchange`)")
    parser.add_argument("--template", type=Path, help="exported template (default: that of the example `exchange`)")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--target", type=Path, default=target, help="where tools and results go")
    parser.add_argument("--ukai", type=Path, help="the program whose default alarms are exported (default: it is built)")
    parser.add_argument("--without-localstack", action="store_true", help="only what installs within a minute")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--exchange", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def installed(venv: Path, python: str, packages: list[str]) -> Path:
    """The folder of the programs of a virtual environment that holds exactly these packages."""
    mark = venv / "installed.txt"
    if not mark.exists() or mark.read_text() != "\n".join(packages):
        print(f"installing {', '.join(packages)}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", venv], check=True, timeout=INSTALL_MAX_S)
        subprocess.run([venv / "bin/pip", "install", "--quiet", *packages], check=True, timeout=INSTALL_MAX_S)
        mark.write_text("\n".join(packages))
    return venv / "bin"


def install_localstack(work: Path) -> Path | None:
    wanted = ".".join(map(str, LOCALSTACK_PYTHON))
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{wanted}.*/bin/python"))
    candidates = [sys.executable, shutil.which(f"python{wanted}"), *map(str, pyenv)]
    for python in filter(None, candidates):
        ask = [python, "-c", "import sys; print(sys.version_info[:2])"]
        version = subprocess.run(ask, capture_output=True, text=True)
        if version.stdout.strip() == str(LOCALSTACK_PYTHON):
            return installed(work / "localstack", python, LOCALSTACK)
    print(f"skipped: LocalStack needs Python {wanted}, and there is none here")
    return None


def exchange_command(arguments: argparse.Namespace) -> list[str]:
    """The program that exports and imports; built once, then run without cargo."""
    if arguments.exchange:
        return arguments.exchange
    build = ["cargo", "build", "--quiet", "--locked", "-p", "ukai-core", "--example", "exchange"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(arguments.target)}
    subprocess.run(build, cwd=ROOT, env=environment, check=True, timeout=BUILD_MAX_S)
    return [str(arguments.target / "debug/examples/exchange")]


def exported(arguments: argparse.Namespace, exchange: list[str], work: Path) -> tuple[Path, Path]:
    def write(given: Path | None, kind: str) -> Path:
        if given:
            return given
        text = subprocess.run([*exchange, "export", kind], check=True, capture_output=True, text=True).stdout
        file = work / f"alarms.{kind}.json"
        file.write_text(text)
        return file

    return write(arguments.json, "json"), write(arguments.template, "cloudformation")


def lint(tools: Path, template: Path) -> int:
    result = subprocess.run([tools / "cfn-lint", template], capture_output=True, text=True, timeout=CALL_MAX_S)
    count = len(json.loads(template.read_text())["Resources"])
    print(f"cfn-lint: {count} resources, {'no complaint' if result.returncode == 0 else result.stdout}", flush=True)
    return int(result.returncode != 0)


def in_namespace(command: list[str], has_localstack: bool) -> int:
    unshare = ["unshare", "--user", "--map-root-user", "--net"]
    possible = shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0
    environment = {**os.environ, "WITH_LOCALSTACK": "1" if has_localstack and possible else ""}
    if has_localstack and not possible:
        print("skipped: LocalStack listens on every interface, and there is no network namespace to keep it in")
    return subprocess.run([*(unshare if possible else []), *command], env=environment).returncode


def inside(arguments: argparse.Namespace) -> int:
    loopback_up()
    work = arguments.target / "aws"
    failures = run(ministack(work), arguments, work)
    if os.environ.get("WITH_LOCALSTACK"):
        failures += run(localstack(work), arguments, work)
    return int(failures > 0)


def loopback_up() -> None:
    """In a new network namespace the loopback interface is down; elsewhere this changes nothing."""
    siocsifflags, iff_up_running = 0x8914, 0x41
    with contextlib.suppress(PermissionError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh14x", b"lo", iff_up_running))


def environment(port: int) -> dict[str, str]:
    """The only place that says where AWS is: on loopback, and nowhere else."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def ministack(work: Path) -> tuple[str, list, dict, str]:
    port = PORTS["ministack"]
    command = [work / "tools/bin/python", "-m", "hypercorn", "ministack.app:app", "--bind", f"127.0.0.1:{port}"]
    return "ministack", command, {"GATEWAY_PORT": str(port)}, "/_ministack/health"


def localstack(work: Path) -> tuple[str, list, dict, str]:
    port = PORTS["localstack"]
    own = {
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_VOLUME_DIR": str(work / "localstack-volume"),
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
    }
    return "localstack", [work / "localstack/bin/python", "-m", "localstack.runtime.main"], own, "/_localstack/health"


def run(emulator: tuple[str, list, dict, str], arguments: argparse.Namespace, work: Path) -> int:
    name, command, own, health = emulator
    alarms = json.loads(arguments.json.read_text())
    surroundings = environment(PORTS[name])
    with open(work / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command, env=surroundings | own, cwd=work, stdout=log, stderr=log, start_new_session=True
        )
    try:
        if not ready(process, surroundings["AWS_ENDPOINT_URL"] + health):
            print(f"{name}: it did not start; see {work / f'{name}.log'}")
            return 1
        client = Client(name, work, surroundings)
        failures = client.put_and_compare(alarms) + client.import_again(alarms, arguments.exchange)
        # MiniStack has no composite alarms in CloudFormation.
        return failures + (client.deploy(arguments.template.resolve()) if name == "localstack" else 0)
    finally:
        stop(process)


def ready(process: subprocess.Popen, url: str) -> bool:
    deadline = time.monotonic() + START_MAX_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return True
        time.sleep(0.2)
    return False


def stop(process: subprocess.Popen) -> None:
    """It and everything that it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


class Client:
    def __init__(self, emulator: str, work: Path, surroundings: dict[str, str]):
        self.emulator = emulator
        self.work = work
        self.surroundings = surroundings
        self.put: set[str] = set()
        self.composites: set[str] = set()

    def put_and_compare(self, alarms: list[dict]) -> int:
        failures = 0
        for alarm in alarms:
            name = alarm["AlarmName"]
            operation = "put-composite-alarm" if "AlarmRule" in alarm else "put-metric-alarm"
            answer = self.aws(operation, "--cli-input-json", json.dumps(alarm))
            if "AlarmRule" in alarm:
                self.composites.add(name)
            if answer.returncode == 0:
                self.put.add(name)
            else:
                failures += self.blame("put", f"{name}: refused", operation, answer.stderr.strip())
        described = self.described()
        for alarm in alarms:
            if alarm["AlarmName"] in self.put:
                failures += self.compare(alarm, described.get(alarm["AlarmName"], {}))
        print(f"{self.emulator}: {len(self.put)} of {len(alarms)} alarms put and read back, {failures} faults of ours")
        return failures

    def compare(self, alarm: dict, described: dict) -> int:
        failures = 0
        for field, wanted in alarm.items():
            seen = described.get(field, [] if wanted == [] else None)
            if normal(seen) != normal(wanted):
                what = f"{alarm['AlarmName']}: {field} is {short(seen)}, not {short(wanted)}"
                failures += self.blame("read", what, field, repr(seen))
        return failures

    def blame(self, step: str, what: str, field: str, seen: str) -> int:
        """0 where this is a known limit of the emulator."""
        for limited_step, limited_field, part, why in LIMITS[self.emulator]:
            if (limited_step, limited_field) == (step, field) and part in seen:
                print(f"{self.emulator}: {what} [limit of the emulator: {why}]")
                return 0
        print(f"{self.emulator}: FAULT: {what}: {seen}")
        return 1

    def deploy(self, template: Path) -> int:
        """The template makes the same alarms, apart from those that the emulator refused before."""
        for name in sorted(self.put, key=lambda name: name in self.composites, reverse=True):
            self.aws("delete-alarms", "--alarm-names", name)
        document = json.loads(template.read_text())
        resources = document["Resources"]
        for logical_id in [each for each in resources if resources[each]["Properties"]["AlarmName"] not in self.put]:
            del resources[logical_id]
        status = self.create_stack(document)
        described = self.described()
        failures = 0 if status == "CREATE_COMPLETE" else self.blame("stack", "it was not created", "", status)
        for properties in (resource["Properties"] for resource in resources.values()):
            alarm = described.get(properties["AlarmName"], {})
            for field, value in properties.items():
                if normal(alarm.get(field)) != normal(resolved(value)):
                    made = f"the stack made {field} {short(alarm.get(field))}, not {short(value)}"
                    what = f"{properties['AlarmName']}: {made}"
                    failures += self.blame("stack", what, field, repr(alarm.get(field)))
        print(f"{self.emulator}: stack {status}, {len(resources)} alarms compared, {failures} faults of ours")
        return failures

    def create_stack(self, document: dict) -> str:
        body = self.work / f"{self.emulator}.template.json"
        body.write_text(json.dumps(document))
        parameter = f"ParameterKey=AlarmTopic,ParameterValue={TOPIC}"
        stack = ["--stack-name", "alarms"]
        words = ["create-stack", *stack, "--template-body", f"file://{body}", "--parameters", parameter]
        created = self.aws(*words, of="cloudformation")
        status = created.stderr.strip()
        deadline = time.monotonic() + CALL_MAX_S
        while created.returncode == 0 and not status.endswith(("COMPLETE", "FAILED")) and time.monotonic() < deadline:
            time.sleep(1)
            words = ["describe-stacks", *stack, "--query", "Stacks[0].StackStatus", "--output", "text"]
            status = self.aws(*words, of="cloudformation").stdout.strip()
        return status

    def described(self) -> dict[str, dict]:
        answer = self.aws("describe-alarms", "--alarm-types", "MetricAlarm", "CompositeAlarm", "--output", "json")
        (self.work / f"{self.emulator}.described.json").write_text(answer.stdout)
        lists = json.loads(answer.stdout or "{}")
        alarms = lists.get("MetricAlarms", []) + lists.get("CompositeAlarms", [])
        return {alarm["AlarmName"]: alarm for alarm in alarms}

    def import_again(self, alarms: list[dict], exchange: list[str]) -> int:
        """What the AWS CLI prints of the emulator's alarms is what an import has to take, whole."""
        file = self.work / f"{self.emulator}.described.json"
        answer = subprocess.run([*exchange, "import", file], capture_output=True, text=True, timeout=CALL_MAX_S)
        if answer.returncode != 0:
            print(f"{self.emulator}: import: {answer.stderr}")
            return 1
        imported = json.loads(answer.stdout)
        failures = 0
        for refused in imported["refused"]:
            failures += self.blame("import", f"{refused['alarm']}: not imported", "", refused["text"])
        wanted = {alarm["AlarmName"]: alarm for alarm in alarms}
        for taken in imported["taken"]:
            name, value = taken["AlarmName"], wanted[taken["AlarmName"]]
            for field in [field for field in taken if normal(value.get(field)) != normal(taken[field])]:
                what = f"{name}: imported with another {field}"
                failures += self.blame("import", what, field, repr(taken[field]))
        print(f"{self.emulator}: {len(imported['taken'])} of {len(self.put)} imported again, {failures} faults of ours")
        return failures

    def aws(self, *words: str, of: str = "cloudwatch") -> subprocess.CompletedProcess:
        command = [self.work / "tools/bin/aws", of, *words]
        return subprocess.run(command, env=self.surroundings, capture_output=True, text=True, timeout=CALL_MAX_S)


def short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def resolved(value: object) -> object:
    """The parameter, where the template refers to it."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    return TOPIC if value == {"Ref": "AlarmTopic"} else value


def normal(value: object) -> object:
    """What is not there, an empty list and an empty text are the same; so are 1 and 1.0."""
    if isinstance(value, dict):
        members = {name: normal(member) for name, member in value.items()}
        return {name: member for name, member in members.items() if member is not None}
    if isinstance(value, list):
        return [normal(item) for item in value] or None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None if value == "" else value


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the check could not run: {error}", file=sys.stderr)
        sys.exit(2)
