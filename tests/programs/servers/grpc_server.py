"""A gRPC server of `grpcio` without generated code: messages are plain bytes."""

import sys
import time
from concurrent import futures

import grpc

LARGE = 32 << 20


def up(requests, _):
    return str(sum(len(request) for request in requests)).encode()


def down(request, _):
    for i in range(int(request)):
        yield str(i).encode()


def both(requests, _):
    yield from requests


def slow(_request, context):
    time.sleep(5)
    return b"late"


methods = {
    "Once": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
}
options = [("grpc.max_receive_message_length", LARGE), ("grpc.max_send_message_length", LARGE), ("grpc.so_reuseport", 0),
           ("grpc.http2.min_ping_interval_without_data_ms", 100), ("grpc.keepalive_permit_without_calls", 1)]
server = grpc.server(futures.ThreadPoolExecutor(64), options=options)
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("pilot.Lab", methods)])
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
