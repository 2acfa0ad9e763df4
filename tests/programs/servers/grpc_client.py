"""A gRPC client of `grpcio`: the kind of call that its second argument names, with assertions.

`load SECONDS CLIENTS LENGTH` prints unary calls a second, for `pilot-bench programs`.
"""

import os
import sys
import threading
import time

import grpc

LARGE = 32 << 20
OPTIONS = [("grpc.max_receive_message_length", LARGE), ("grpc.max_send_message_length", LARGE),
           ("grpc.use_local_subchannel_pool", 1)]


def channel(*options):
    return grpc.insecure_channel(sys.argv[1], options=[*OPTIONS, *options])


def method(kind, name, on):
    return getattr(on, kind)(f"/pilot.Lab/{name}")


def unary():
    with channel() as on:
        once = method("unary_unary", "Once", on)
        for length in (0, 1, 1000, 100_000):
            message = os.urandom(length)
            assert once(message, timeout=30) == message
        calls = [once.future(str(i).encode(), timeout=30) for i in range(500)]
        assert [call.result() for call in calls] == [str(i).encode() for i in range(500)]


def streams():
    with channel() as on:
        assert method("stream_unary", "Up", on)(iter([b"x" * 1000] * 1000), timeout=60) == b"1000000"
        assert list(method("unary_stream", "Down", on)(b"1000", timeout=60)) == [str(i).encode() for i in range(1000)]
        sent = [os.urandom(10_000) for _ in range(300)]
        assert list(method("stream_stream", "Both", on)(iter(sent), timeout=60)) == sent


def large():
    with channel() as on:
        message = os.urandom(16 << 20)
        assert method("unary_unary", "Once", on)(message, timeout=100) == message


def deadline():
    with channel() as on:
        begin = time.monotonic()
        try:
            method("unary_unary", "Slow", on)(b"", timeout=0.3)
            raise AssertionError("no deadline")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e
        assert time.monotonic() - begin < 3
        call = method("unary_stream", "Down", on)(b"100000000")
        assert next(iter(call)) == b"0"
        call.cancel()
        assert method("unary_unary", "Once", on)(b"after", timeout=10) == b"after"


def keepalive():
    with channel(("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 5000),
                 ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)) as on:
        once = method("unary_unary", "Once", on)
        assert once(b"a", timeout=10) == b"a"
        time.sleep(2)
        assert once(b"b", timeout=10) == b"b"


def metadata():
    with channel() as on:
        once = on.unary_unary("/pilot.Lab/None")
        try:
            once(b"", timeout=10)
            raise AssertionError("a method that is not there answers")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.UNIMPLEMENTED, e


def load():
    seconds, clients, length = float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    message, counts = os.urandom(length), [0] * clients
    channels = [channel() for _ in range(clients)]
    calls = [method("unary_unary", "Once", on) for on in channels]
    for call in calls:
        call(message, timeout=30)
    end = time.monotonic() + seconds

    def one(i):
        while time.monotonic() < end:
            calls[i](message, timeout=30)
            counts[i] += 1

    threads = [threading.Thread(target=one, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counts) / seconds)


globals()[sys.argv[2]]()
