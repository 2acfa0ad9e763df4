"""PostgreSQL with psql."""

import shutil

from lab import Skipped, equal, free_port, holds

NEEDS = ["postgres", "psql"]


def run(lab):
    folder, port = lab.new_folder("postgres"), free_port()
    # The server refuses to run as root.
    as_user = ["runuser", "-u", "postgres", "--"] if shutil.which("runuser") else None
    if as_user is None:
        raise Skipped("runuser is not installed")
    shutil.chown(folder, "postgres")
    lab.worker.run(*as_user, shutil.which("initdb"), "-D", folder / "data", "-A", "trust", "-U", "postgres", "-N", cwd=folder)
    lab.worker.start(*as_user, shutil.which("postgres"), "-D", folder / "data", "-p", port, "-h", "127.0.0.1",
                     "-k", folder, port=port, cwd=folder)
    with lab.row("psql: queries, a large result, COPY in and out"):
        psql = lambda sql, **more: lab.primary.text("psql", "-h", "127.0.0.1", "-p", lab.way(port), "-U", "postgres", "-XAtq",
                                                    "-v", "ON_ERROR_STOP=1", "-c", sql, **more)
        equal(psql("select 6 * 7").strip(), "42", "answer")
        equal(len(psql("select repeat('x', 5000000)").strip()), 5_000_000, "length of a large value")
        psql("create table t (n int, s text)")
        psql("copy t from stdin", input="".join(f"{i}\trow {i}\n" for i in range(50_000)).encode())
        equal(psql("select count(*), sum(n) from t").strip(), "50000|1249975000", "sums")
        equal(len(psql("copy t to stdout").splitlines()), 50_000, "lines copied out")
    with lab.row("psql: an error leaves the connection usable, cancelling ends a query"):
        done = lab.primary.run("psql", "-h", "127.0.0.1", "-p", lab.way(port), "-U", "postgres", "-XAt", "-c", "select nothing",
                               "-c", "select 'after'", check=False)
        holds(b"after" in done.stdout, done.stdout)
        done = lab.primary.run("psql", "-h", "127.0.0.1", "-p", lab.way(port), "-U", "postgres", "-XAt",
                               "-c", "set statement_timeout = 200", "-c", "select pg_sleep(30)", check=False)
        holds(b"statement timeout" in done.stderr, done.stderr)
    with lab.row("psql: notifications arrive while nothing is asked"):
        script = "listen news;\n\\! sleep 0.3\nnotify news, 'hello';\nselect 1;\n"
        said = lab.primary.text("psql", "-h", "127.0.0.1", "-p", lab.way(port), "-U", "postgres", "-XAt", input=script.encode())
        holds('Asynchronous notification "news"' in said, said)
