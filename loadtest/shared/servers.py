"""Servers, each on a core: liangma with its doors and tokens, and what its peers need."""

import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import ssl
import subprocess
import tempfile
import time

from shared import store
from shared.tool import Failed, run, say

START_SECONDS = 300  # a whole province is read from disk within 60; a busy machine is slower
DOORS = ("resident", "gate", "desk", "ops")
# Few sessions and one scanner ask for a whole province.
UNLIMITED = ("shows_per_second=0", "scans_per_second=0", "bulk_codes_per_second=0")


class Server:
    """One process on its core, its output in a file, stopped by its id."""

    def __init__(self, name, command, core, folder, env=None, nice=None):
        self.name, self.ports = name, {}
        # A name each: a server is started twice and more.
        self.out, self.err = (tempfile.NamedTemporaryFile(dir=folder, prefix=f"{name}-", suffix=f".{end}") for end in ("out", "err"))
        first = None if nice is None else lambda: os.setpriority(os.PRIO_PROCESS, 0, nice)
        # setpriv becomes taskset becomes the server, so its id is the server's. A session of its own, so that Ctrl-C
        # reaches only us, and we stop it; should we be killed, the kernel does. But niceness counts within a session alone.
        self.process = subprocess.Popen(
            [str(word) for word in ("setpriv", "--pdeathsig", "KILL", "taskset", "-c", core, *command)],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, start_new_session=nice is None,
            env={**os.environ, **(env or {})}, preexec_fn=first)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def output(self):
        return pathlib.Path(self.out.name).read_text(errors="replace")

    def wait_for(self, found, what):
        deadline = time.monotonic() + START_SECONDS
        while not (result := found()):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                why = f"ended with {self.process.returncode}" if ended else f"gave {START_SECONDS} s"
                last = pathlib.Path(self.err.name).read_text(errors="replace").strip().splitlines()[-5:]
                raise Failed("\n  ".join([f"waiting for {what}, {self.name} {why}; its last words:", *last]))
            time.sleep(0.02)
        return result

    def cpu_by_thread(self):
        """Nanoseconds on the CPU since each thread began, user and kernel."""
        threads = {}
        for thread in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it ended between the listing and the reading
                threads[thread.name] = cpu_of(thread)
        return threads

    def cpu_since(self, before):
        # Thread by thread: the sum alone would fall when a thread ends and takes its past with it.
        return sum(now - before.get(thread, 0) for thread, now in self.cpu_by_thread().items())

    def cpu_by_door(self):
        """The same of each door's threads."""
        spent = dict.fromkeys(DOORS, 0)
        for thread in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                door = (thread / "comm").read_text().partition("-")[0].strip()
                if door in spent:
                    spent[door] += cpu_of(thread)
        return spent

    def stop(self, grace=10, quietly=False):
        """Ends it; kills it if that takes longer than `grace` seconds."""
        self.process.terminate()
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            if not quietly:
                say(f"{self.name} did not end within {grace} s; killed")
        finally:  # a second Ctrl-C while we wait comes by here as well
            self.process.kill()
            self.process.wait()
            self.out.close()
            self.err.close()


def cpu_of(thread):
    with contextlib.suppress(FileNotFoundError):
        return int((thread / "schedstat").read_text().split()[0])
    # A kernel without schedstat: clock ticks, mostly 10 ms. The name in brackets may hold spaces.
    fields = (thread / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def stopped_on_error(server):
    try:
        yield server
    except BaseException:
        server.stop()
        raise


# liangma


def serve(store_folder, settings):
    """The words of `liangma serve` on free ports."""
    addresses = [word for door in DOORS for word in (f"--{door}", "127.0.0.1:0")]
    return ["serve", "--store", store_folder, *addresses, *(word for setting in settings for word in ("--set", setting))]


def wait_for_doors(server):
    """Waits until liangma is ready, and notes its ports."""
    def ports():
        words = (line.split() for line in server.output().splitlines())
        found = {pair[0]: int(pair[1].rstrip("/").rpartition(":")[2]) for pair in words if len(pair) == 2 and pair[0] in DOORS}
        return found if len(found) == len(DOORS) else None

    server.ports = server.wait_for(ports, "its doors")
    server.wait_for(lambda: status(server.ports["ops"], "/ready") == 200, "200 from /ready")


class Liangma:
    """The service on the store of `options`, running, with a session for each of `people` and a scanner token.

    With a certificate, as `self_signed` makes it, residents and gates speak TLS."""

    def __init__(self, options, folder, people, certificate=None, name="liangma"):
        self.options, self.folder, self.people, self.certificate, self.name = options, folder, people, certificate or {}, name

    def __enter__(self):
        tls = [f"{door}_tls_{part}={path}" for door in ("resident", "gate") for part, path in self.certificate.items()]
        command = serve(self.options.store, ["resident_threads=1", "gate_threads=1", *UNLIMITED, *tls, *self.options.set])
        self.server = Server(self.name, [self.options.liangma, *command], self.options.server_core, self.folder)
        with stopped_on_error(self.server):
            wait_for_doors(self.server)
            say(f"making {len(self.people)} sessions")
            keys = self.options.store / "keys"
            self.sessions = [store.session(self.options.liangma, keys, person) for person in self.people]
            self.scanner = store.token(self.options.liangma, keys, "scanner", "--site", "bench")
        return self

    def __exit__(self, *_):
        self.server.stop()

    def show_lines(self):
        """The generator's input for shows: token, nothing."""
        return [(session, "") for session in self.sessions]

    def scan_lines(self):
        """The same for scans, with a code for each session, fresh now."""
        return [(self.scanner, code) for code in self.codes()]

    def codes(self):
        with Caller(self.server.ports["resident"], self.certificate.get("cert")) as caller:
            answers = [caller.ask("show", *line) for line in self.show_lines()]
        return [json.loads(body)["code"] for _, body in answers]


# Its peers


def temporary_paths(place):
    """Lines of nginx's configuration: it keeps its files here."""
    return "\n".join(f"  {use}_temp_path {place}/{use};" for use in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def self_signed(folder):
    """A P-256 key and a certificate for 127.0.0.1 that it signs itself."""
    made = {"cert": folder / "tls.pem", "key": folder / "tls.key"}
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made["key"], "-out", made["cert"]])
    return made


def free_port():
    """Below the ports that a generator's connections take."""
    for port in random.sample(range(10_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed("no free port")


# Asking


def door_of(kind):
    return {"show": "resident", "scan": "gate"}[kind]


def method_and_path(kind):
    return {"show": ("GET", "/v1/code"), "scan": ("POST", "/v1/scan")}[kind]


def status(port, path):
    """The status of an answer; None where nothing is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status
    return None


class Caller:
    """One connection kept alive, asking one thing after another and weighing the answers; over TLS where it is to trust a certificate."""

    def __init__(self, port, certificate=None):
        self.port, self.certificate = port, certificate

    def __enter__(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), 10)
        if self.certificate:
            self.socket = ssl.create_default_context(cafile=self.certificate).wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.stream = self.socket.makefile("rb")
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def ask(self, kind, token, body):
        """The bytes of the whole answer, and its body. All that is no 200, or ends the connection, is a failure."""
        method, path = method_and_path(kind)
        length = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {token}\r\n{length}\r\n"
        self.socket.sendall((head + body).encode())
        lines = list(iter(self.stream.readline, b"\r\n")) if (first := self.stream.readline()) else []
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.decode("latin-1").partition(":") for line in lines)}
        if "content-length" not in headers:
            raise Failed(f"a {kind} was answered without content-length: {first!r}")
        answer = self.stream.read(int(headers["content-length"]))
        if first.split()[1] != b"200" or headers.get("connection", "").lower() == "close":
            raise Failed(f"a {kind} was answered {first.decode('latin-1').strip()}: {answer.decode(errors='replace')[:300]}")
        return len(first) + sum(map(len, lines)) + len(b"\r\n") + len(answer), answer
