"""The examples of README.md, "Your programs", as printed: blocks for the worker and the primary, in their order.

The last line of a block for the primary says in a comment which line the block prints.
"""

import os
import re
import time

from lab import COMMAND_S, Skipped, equal, holds, until
import tools

NEEDS = ["curl", "pypi:fastapi", "pypi:uvicorn", "pypi:websockets", "pypi:grpc", "pypi:mcp", "pypi:a2a"]
BLOCK = re.compile(r"^\*\*(\w+)|^```sh (worker|primary)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Tries of a block whose server listens on no port of the kernel, a second apart.
TRIES_MAX = 20


def blocks():
    """Returns the blocks with the system that they belong to."""
    text = (tools.ROOT / "README.md").read_text()
    section = text.split("\n## Your programs\n")[1].split("\n## ")[0]
    system, out = "grants", []
    for name, machine, script in BLOCK.findall(section):
        if name:
            system = name
        else:
            out.append((system, machine, script))
    return out


def prepare(lab, machine):
    """Gives a machine a folder, and a `pilotctl` that knows its daemon, as one in the default place would."""
    folder, programs = lab.new_folder(f"readme-{machine.name}"), lab.new_folder("bin")
    wrapper = programs / "pilotctl"
    wrapper.write_text(f'#!/bin/sh\nPILOT_HOME={machine.folder}/pilot exec {lab.pilotctl} "$@"\n')
    wrapper.chmod(0o755)
    path = os.pathsep.join([str(programs), str(tools.VENV / "bin"), os.environ["PATH"]])
    return {"env": {"PATH": path, "HOME": str(folder)}, "cwd": folder}


def undo(lab, machine, script):
    for command in re.findall(r"^pilotctl (expose|forward|proxy) (?:--listen )?(\S+)", script, re.MULTILINE):
        lab.undo.append((machine, (command[0], "--remove", command[1])))


def serve(lab, machine, script, place):
    undo(lab, machine, script)
    child = machine.start("bash", "-euc", script, **place)
    equal(child.wait(COMMAND_S), 0, "exit status")
    for target in re.findall(r"^pilotctl expose \d+ (\d+)", script, re.MULTILINE):
        until(f"the server of {target} listens", lambda: machine.listens(int(target)))


def ask(lab, machine, script, place):
    *_, last = script.strip().splitlines()
    wanted = last.split("# ", 1)[1].strip()
    undo(lab, machine, script)
    # What sets something up is run once.
    tries = TRIES_MAX if "pilotctl" not in re.sub(r"<<'END'.*?^END$", "", script, flags=re.MULTILINE | re.DOTALL) else 1
    for left in reversed(range(tries)):
        done = machine.run("bash", "-euc", script, check=False, **place)
        said = done.stdout.decode().strip().splitlines()
        if said and said[-1] == wanted:
            return
        if left:
            time.sleep(1)
    raise AssertionError(f"{said[-3:]} instead of {wanted!r}: {done.stderr.decode()[-500:]}")


def run(lab):
    if lab.plain:
        raise Skipped("the examples are Pilot's")
    machines = {"worker": lab.worker, "primary": lab.primary}
    places = {name: prepare(lab, machine) for name, machine in machines.items()}
    found = blocks()
    systems = list(dict.fromkeys(system for system, _, _ in found))
    with lab.row("each of the five systems has blocks for both machines"):
        sides = {(system, machine) for system, machine, _ in found}
        wanted = {(s, m) for s in ("HTTP", "WebSocket", "gRPC", "MCP", "A2A") for m in ("worker", "primary")}
        holds(wanted <= sides, f"{wanted - sides} missing")
    for system in systems:
        with lab.row(system):
            for _, machine, script in (block for block in found if block[0] == system):
                (serve if machine == "worker" else ask)(lab, machines[machine], script, places[machine])
