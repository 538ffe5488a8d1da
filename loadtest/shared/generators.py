"""The generators: what `load` and wrk are asked to do, and what they say."""

import json
import subprocess

from shared.tool import Failed, say

VOID = 3  # what `load` ends with when it fell behind
TRIES = 4


def load_words(options, ports, *more):
    """What each run of `load` is told: whom to ask, as whom, from which core."""
    doors = ["--resident", f"127.0.0.1:{ports['resident']}", "--gate", f"127.0.0.1:{ports['gate']}"]
    return [*doors, "--keys", options.store / "keys", "--people", options.people, "--core", options.load_core, *more]


def load(options, ports, show, scan, folder):
    """One run of `load` on 64 connections. Returns figures by kind; None: it is void."""
    out = folder / "load.json"
    words = load_words(options, ports, "--show", show, "--scan", scan, "--seconds", options.seconds,
                       "--connections", 64, "--nice", -3, "--json", out)
    command = [str(word) for word in (options.load, "run", *words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 60)
    if done.returncode == VOID:
        return None
    if done.returncode != 0:
        raise Failed(f"exit {done.returncode} from the generator: {done.stderr.strip()[-400:]}")
    return {one["kind"]: one for one in json.loads(out.read_text())["classes"]}


def answers(figures, seconds):
    """How many were asked, with the half second of warm-up, which `load` does not count, at half the rate."""
    return figures["offered_per_second"] * (seconds + 0.5)


def valid(turn, advice):
    """Makes a turn that is void again, some times."""
    for _ in range(TRIES):
        if measured := turn():
            return measured
        say("void: tries were started late; once more")
    raise Failed(f"{TRIES} turns were void one after the other: ask for less, with {advice}")


def wrk_said(output):
    """What a script of wrk printed at its end."""
    for line in output.splitlines():
        if line.startswith("measured "):
            return json.loads(line[9:])
    raise Failed(f"wrk measured nothing:\n{output}")
