"""The frame of a tool: where things are, arguments, commands that it runs, how it ends."""

import argparse
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
BUILD = "cargo build --release -p liangma -p loadtest"


class Failed(Exception):
    """Could not be measured: one line for the person who started it."""


def say(words):
    print(words, file=sys.stderr, flush=True)


def ended(name, measure):
    """Measures. Returns the exit status: what `measure` returns, 0 for nothing; 1 if it failed; 130 after Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        return measure() or 0
    except Failed as failed:
        say(f"{name}: {failed}")
        return 1
    except KeyboardInterrupt:
        return 130


def parser(doc):
    """A parser whose help is the text at the head of the tool."""
    title, _, rest = doc.partition("\n\n")
    return argparse.ArgumentParser(description=title, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_binaries(parser, *names):
    for name in names:
        parser.add_argument(f"--{name}", type=pathlib.Path, default=BUILT / name)


def add_cores(parser):
    parser.add_argument("--server-core", type=int, default=1, help="where the servers run (1)")
    parser.add_argument("--load-core", type=int, default=0, help="where the generator runs (0)")


def found(names, binaries=None, packages=""):
    """Where each tool is, by name. `binaries` are our own, by name. Names all that is missing at once."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where Debian puts the servers
    tools = {name: shutil.which(name, path=path) for name in names}
    missing = [name for name, place in tools.items() if place is None]
    for name, binary in (binaries or {}).items():
        tools[name] = str(binary.resolve())
        if not os.access(binary, os.X_OK):
            missing.append(str(binary))
    if missing:
        hint = f"; on Debian: apt-get install {packages}" if packages else ""
        raise Failed(f"no {', '.join(missing)} here: {BUILD}{hint}")
    return tools


def run(command, limit=3600, before=None):
    """Runs a command to its end, bounded. Returns its standard output. `before`: called in the child, before the command."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, preexec_fn=before)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"no end within {limit} s: {shlex.join(words)}") from late
    except OSError as unable:
        raise Failed(f"cannot run {words[0]}: {unable}") from unable
    if done.returncode != 0:
        raise Failed(f"exit {done.returncode} from {shlex.join(words)[:300]}\n{(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout
