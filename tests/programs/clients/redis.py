"""redis-server with redis-cli and redis-benchmark."""

from lab import equal, free_port, holds

NEEDS = ["redis-server", "redis-cli", "redis-benchmark"]


def run(lab):
    port = free_port()
    lab.worker.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                     "--dir", lab.new_folder("redis"), port=port)
    with lab.row("redis-cli: values, a pipe, an error"):
        cli = lambda *args, **more: lab.primary.text("redis-cli", "-p", lab.way(port), *args, **more)
        equal(cli("set", "key", "value").strip(), "OK", "set")
        equal(cli("get", "key").strip(), "value", "get")
        big = "x" * 2_000_000
        equal(cli("-x", "set", "big", input=big.encode()).strip(), "OK", "a value of 2 MB")
        equal(cli("strlen", "big").strip(), "2000000", "its length")
        piped = "".join(f"*3\r\n$3\r\nSET\r\n$6\r\nk{i:05}\r\n$1\r\nv\r\n" for i in range(10_000)).encode()
        holds("errors: 0, replies: 10000" in cli("--pipe", input=piped), "the pipe has errors")
        holds("ERR" in cli("nonsense", check=False), "no error")
    with lab.row("redis-benchmark: 10,000 requests, 50 clients"):
        said = lab.primary.text("redis-benchmark", "-p", lab.way(port), "-n", 10_000, "-c", 50, "-t", "ping,set,get", "--csv")
        equal(len([line for line in said.splitlines() if '"SET"' in line or '"GET"' in line]), 2, "results")
    with lab.row("redis-benchmark: a new connection for each request"):
        said = lab.primary.text("redis-benchmark", "-p", lab.way(port), "-n", 500, "-c", 20, "-k", 0, "-t", "get", "--csv")
        holds('"GET"' in said, said)
