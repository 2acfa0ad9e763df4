"""nginx as the server, with curl: many new connections, conditional requests."""

import hashlib

from lab import equal, free_port, together

NEEDS = ["nginx", "curl"]

CONFIG = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; user root;
events {{ worker_connections 2048; }}
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=2048; root {folder}/www; dav_methods PUT; keepalive_requests 100000; }}
  server {{ listen 127.0.0.1:{port2} http2; root {folder}/www; dav_methods PUT; }}
}}
"""


def serve(lab):
    """Starts nginx on the worker; returns its folder, its port, and the port that speaks HTTP/2 at once."""
    folder = lab.new_folder("nginx")
    (folder / "www").mkdir()
    (folder / "www").chmod(0o777)
    (folder / "www/small").write_bytes(bytes(range(256)) * 40)
    port, port2 = free_port(), free_port()
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, port2=port2))
    lab.worker.start("nginx", "-c", folder / "nginx.conf", "-p", folder, port=port)
    return folder, port, port2


def run(lab):
    folder, port, _ = serve(lab)
    small = (folder / "www/small").read_bytes()
    for name, flags in (("forward", ()), ("forward to expose --http", ("--http",))):
        with lab.row(f"{name}: 300 new connections, 20 at a time"):
            url = f"http://127.0.0.1:{lab.way(port, *flags)}/small"

            def fetch(i):
                done = lab.primary.run("curl", "-sS", "--fail", "-H", "Connection: close", *[url] * 15)
                equal(hashlib.sha256(done.stdout).hexdigest(), hashlib.sha256(small * 15).hexdigest(), "hash")

            together(20, fetch)
        with lab.row(f"{name}: conditional request and HEAD"):
            url = f"http://127.0.0.1:{lab.way(port, *flags)}/small"
            head = lab.primary.text("curl", "-sS", "-I", url)
            tag = next(line.split(": ", 1)[1].strip() for line in head.splitlines() if line.lower().startswith("etag"))
            code = lab.primary.text("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"If-None-Match: {tag}",
                                    url)
            equal(code, "304", "status")
