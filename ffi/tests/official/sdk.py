"""The official Python package, unmodified, on our library: sdk.py SOCKET_A SOCKET_B KEY@host:port FOLDER"""

import ctypes
import hashlib
import json
import os
import sys
import threading
import time

from pilotprotocol import Driver, PilotError
from pilotprotocol.client import _get_lib

SOCKET_A, SOCKET_B, RENDEZVOUS, FOLDER = sys.argv[1:5]


def fails(text, f, *args):
    try:
        f(*args)
    except PilotError as e:
        assert text in str(e), f"{text!r} is not in {e}"
    else:
        raise AssertionError(f"no error with {text!r}")


def until(what, f):
    end = time.monotonic() + 15
    while not f():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def state_and_trust(a, b):
    info = a.info()
    assert info["hostname"] == "node-a" and info["node_id"] > 0 and info["encrypt"] is True, info
    assert a.health()["status"] == "ok"
    assert a.pending_handshakes()["pending"] == []
    fails("no node is called", a.dial, b.info()["address"] + ":7")  # it is private
    assert a.resolve_hostname("node-b")["address"] == b.info()["address"]
    fails("not trusted", a.dial, b.info()["address"] + ":7")
    fails("resolve_hostname: daemon:", a.resolve_hostname, "nobody-at-all")
    node_b, node_a = b.info()["node_id"], info["node_id"]
    assert a.wait_for_trust(node_b, 100) is False
    lib = _get_lib()
    lib.PilotWaitForTrust.restype = ctypes.c_void_p
    lib.PilotWaitForTrust.argtypes = [ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32]
    waited = []

    def wait():
        answer = lib.PilotWaitForTrust(a._h, node_b, 20000)
        waited.append(json.loads(ctypes.string_at(answer)))
        lib.FreeString(answer)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert a.handshake(node_b, "let us <talk> & listen")["status"] == "sent"
    until("the request", lambda: b.pending_handshakes()["pending"])
    request = b.pending_handshakes()["pending"][0]
    assert request["node_id"] == node_a and request["justification"] == "let us <talk> & listen"
    assert b.approve_handshake(node_a)["status"] == "approved"
    assert a.wait_for_trust(node_b, 10000) is True
    waiter.join()
    assert waited == [{"node_id": node_b, "trusted": True}], waited
    assert [p["node_id"] for p in a.trusted_peers()["trusted"]] == [node_b]
    fails("revoke: daemon:", a.revoke_trust, 55)


def settings(a):
    assert a.set_hostname("renamed")["hostname"] == "renamed"
    assert a.set_hostname("node-a")["type"] == "set_hostname_ok"
    assert a.set_visibility(True)["visibility"] == "public"
    assert a.set_visibility(False)["visibility"] == "private"
    assert a.set_tags(["x", "y"])["tags"] == ["x", "y"]
    fails("maximum 3 tags", a.set_tags, ["a", "b", "c", "d"])
    fails("invalid tags JSON", a.set_tags, [1])
    assert a.set_webhook("")["webhook"] == ""
    assert a.network_list()["networks"][0]["id"] == 0
    fails("network", a.network_join, 5)
    fails("managed: no active managed networks", a.managed_status, 1)
    fails("admin token", a.broadcast, 0, 1, b"x", "")
    a.disconnect(12345)


def streams(a, b, to):
    fails("parse address: invalid socket address", a.dial, "junk")
    fails("connection refused", a.dial, to + ":6001")
    listener = b.listen(6000)
    fails("port 6000 already bound", b.listen, 6000)
    ours = a.dial(to + ":6000", 10)
    theirs = listener.accept()
    ours.write(b"hello")
    assert theirs.read(100) == b"hello"
    ours.set_read_deadline(time.time() + 0.05)
    begin = time.monotonic()
    fails("i/o timeout", ours.read)
    assert 0.04 < time.monotonic() - begin < 2
    ours.set_read_deadline(None)
    # A deadline that another thread sets ends a read that waits already.
    threading.Timer(0.1, lambda: ours.set_read_deadline(time.time() - 1)).start()
    begin = time.monotonic()
    fails("i/o timeout", ours.read)
    assert time.monotonic() - begin < 2
    ours.set_read_deadline(None)
    theirs.write(b"last words")
    theirs.close()
    assert ours.read_full(10) == b"last words"
    fails("EOF", ours.read)
    ours.close()
    ours.close()
    lib = _get_lib()
    assert "invalid conn handle" in ctypes.string_at(lib.PilotConnRead(10**9, 1).err).decode()
    assert "handle is not a Conn" in ctypes.string_at(lib.PilotConnRead(a._h, 1).err).decode()
    echo = a.dial(to + ":7")
    assert "invalid read size" in ctypes.string_at(lib.PilotConnRead(echo._h, 0).err).decode()
    # A listener that another thread closes ends the waiting, and frees its port.
    threading.Timer(0.1, listener.close).start()
    fails("listener closed", listener.accept)
    until("the port is free", lambda: bound(b, 6000))


def bound(b, port):
    try:
        b.listen(port).close()
        return True
    except PilotError:
        return False


def much_one_way(a, b, to):
    """16 MiB in one write to a reader that starts late; meanwhile another stream of the same Driver works."""
    listener = b.listen(6100)
    data = os.urandom(1 << 20) * 16
    conn = a.dial(to + ":6100")
    theirs = listener.accept()
    writer = threading.Thread(target=lambda: (conn.write(data), conn.close()))
    writer.start()
    time.sleep(0.3)
    with a.dial(to + ":7") as echo:
        echo.write(b"still here")
        assert echo.read_full(10) == b"still here"
    hash, count = hashlib.sha256(), 0
    try:
        while True:
            chunk = theirs.read(1 << 20)
            hash.update(chunk)
            count += len(chunk)
    except PilotError as e:
        assert str(e) == "EOF", e
    writer.join()
    assert count == len(data) and hash.digest() == hashlib.sha256(data).digest()
    listener.close()


def datagrams(a, b, to):
    got = []
    receiver = threading.Thread(target=lambda: got.append(b.recv_from()))
    receiver.start()
    time.sleep(0.1)
    for _ in range(100):
        a.send_to(to + ":5300", b"ping")
        receiver.join(0.1)
        if got:
            break
    assert got[0]["src_addr"] == a.info()["address"] and got[0]["dst_port"] == 5300 and got[0]["data"] == "cGluZw==", got
    a.send_to(to + ":5300", b"x" * 70000)
    fails("invalid socket address", a.send_to, "nowhere", b"x")


def services(a, b, to):
    assert a.send_message("node-b", b"plain text")["ack"] == "ACK TEXT 10 bytes"
    assert a.send_message(to, b'{"a":1}', "json")["ack"] == "ACK JSON 7 bytes"
    assert a.send_message(to, b"\x00\x01", "binary")["ack"] == "ACK BINARY 2 bytes"
    path = os.path.join(FOLDER, "report.txt")
    with open(path, "wb") as f:
        f.write(os.urandom(3_000_000))
    sent = a.send_file("node-b", path)
    assert sent["ack"].startswith("ACK FILE "), sent
    with open(path, "rb") as ours, open(os.path.join(FOLDER, "node-b", "received", "report.txt"), "rb") as theirs:
        assert ours.read() == theirs.read()

    events = []

    def subscriber():
        for topic, data in a.subscribe_event("node-b", "sensor.*", timeout=15):
            events.append((topic, data))
            return

    thread = threading.Thread(target=subscriber)
    thread.start()
    for _ in range(100):
        a.publish_event("node-b", "sensor.heat", b"21.5")
        thread.join(0.1)
        if events:
            break
    thread.join()
    assert events == [("sensor.heat", b"21.5")], events


def ends(a, b, to):
    """Closing a Driver ends its streams and its waiting calls."""
    other = Driver(SOCKET_A)
    conn = other.dial(to + ":7")
    failures = []

    def wait(f):
        try:
            f()
        except PilotError as e:
            failures.append(str(e))

    threads = [threading.Thread(target=wait, args=(f,)) for f in (conn.read, other.recv_from)]
    [t.start() for t in threads]
    time.sleep(0.2)
    other.close()
    [t.join(10) for t in threads]
    assert len(failures) == 2, failures
    fails("invalid", other.info)
    fails("connect to daemon: dial unix /nowhere/x.sock: connect: no such file or directory", Driver, "/nowhere/x.sock")


def embedded():
    lib = _get_lib()
    lib.PilotEmbeddedStart.argtypes, lib.PilotEmbeddedStart.restype = [ctypes.c_char_p], ctypes.c_void_p
    lib.PilotEmbeddedStop.restype = ctypes.c_void_p

    def call(f, *args):
        answer = f(*args)
        value = json.loads(ctypes.string_at(answer))
        lib.FreeString(answer)
        return value

    start = lambda config: call(lib.PilotEmbeddedStart, json.dumps(config).encode())
    assert call(lib.PilotEmbeddedStop) == {"status": "not_started"}
    assert start({}) == {"error": "data_dir required"}
    assert start({"data_dir": "x"}) == {"error": "socket_path required"}
    assert "parse config" in call(lib.PilotEmbeddedStart, b"{")["error"]
    socket = os.path.join(FOLDER, "embedded.sock")
    config = {
        "data_dir": os.path.join(FOLDER, "embedded"),
        "socket_path": socket,
        "registry_addr": RENDEZVOUS,
        "beacon_addr": "",
        "trust_auto_approve": True,
    }
    started = start(config)
    assert started["address"] == str(started["node_id"]) and started["socket"] == socket, started
    assert start(config) == {"error": "embedded daemon already started"}
    with Driver(socket) as d, Driver(SOCKET_A) as a:
        node = d.info()["node_id"]
        assert node == started["node_id"] > 0
        d.set_hostname("embedded")
        a.resolve_hostname("embedded")
        a.handshake(node, "")
        assert a.wait_for_trust(node, 10000)
        assert a.send_message("embedded", b"to you")["ack"] == "ACK TEXT 6 bytes"
        until("it listens", lambda: a.dial(d.info()["address"] + ":7"))
    assert call(lib.PilotEmbeddedStop) == {"status": "stopped"}
    again = start(config)
    assert again["node_id"] == started["node_id"], "its identity stays"
    assert call(lib.PilotEmbeddedStop) == {"status": "stopped"}


with Driver(SOCKET_A) as a, Driver(SOCKET_B) as b:
    state_and_trust(a, b)
    settings(a)
    to = b.info()["address"]
    streams(a, b, to)
    much_one_way(a, b, to)
    datagrams(a, b, to)
    services(a, b, to)
    ends(a, b, to)
embedded()
print("the official package works")
