"""Runs real clients and servers across Pilot, between two machines behind two NATs: `cargo run -p xtask -- programs`.

Each client is a file of the folder `clients` with a list `NEEDS` and a function `run(lab)`.
"""

import argparse
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import lab as laboratory  # noqa: E402
import net  # noqa: E402


def main():
    names = sorted(file.stem for file in (HERE / "clients").glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"clients to run, of {', '.join(names)} (default: all)")
    parser.add_argument("--pilotctl", default=str(HERE.parent.parent / "target/debug/pilotctl"))
    parser.add_argument("--plain", action="store_true", help="without Pilot and namespaces, to test the rows themselves")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON at the end")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in names]
    if unknown:
        parser.error(f"no client is called {', '.join(unknown)}; there are {', '.join(names)}")
    why = None if arguments.plain else net.why_not()
    if why:
        print(f"SKIP  all clients: {why}")
        return 0
    lab = laboratory.Lab(arguments.pilotctl, arguments.plain)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    begin = time.monotonic()
    try:
        lab.up()
        for name in arguments.names or names:
            lab.run_client(name, importlib.import_module(f"clients.{name}"))
    finally:
        lab.down()
    if arguments.json:
        print(json.dumps(lab.rows))
    count = {outcome: sum(row["outcome"] == outcome for row in lab.rows) for outcome in ("PASS", "FAIL", "SKIP")}
    print(", ".join(f"{number} {outcome}" for outcome, number in count.items()), f"in {time.monotonic() - begin:.0f} s")
    return 1 if count["FAIL"] or (os.environ.get("CI") and count["SKIP"]) else 0


if __name__ == "__main__":
    sys.exit(main())
