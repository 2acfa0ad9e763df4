"""`python3 -m http.server`, unmodified, with urllib and curl."""

import hashlib
import sys

from lab import equal, free_port, holds, together

NEEDS = ["curl"]
FETCH = "import sys,urllib.request as u,hashlib; print(hashlib.sha256(u.urlopen(sys.argv[1]).read()).hexdigest())"


def run(lab):
    port, folder = free_port(), lab.new_folder("www")
    for name, size in (("a.txt", 5), ("b.bin", 3_000_000), ("ä ö.txt", 100)):
        lab.file(size).rename(folder / name)
    lab.worker.start(sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1", "--directory", folder, port=port)
    for name, flags in (("forward", ()), ("expose --http", ("--http",))):
        with lab.row(f"{name}: listing and files by urllib"):
            base = f"http://127.0.0.1:{lab.way(port, *flags)}"
            listing = lab.primary.text("curl", "-sS", "--fail", f"{base}/")
            holds("b.bin" in listing, "the listing has no b.bin")
            got = lab.primary.text(sys.executable, "-c", FETCH, f"{base}/b.bin").strip()
            equal(got, hashlib.sha256((folder / "b.bin").read_bytes()).hexdigest(), "hash")
        with lab.row(f"{name}: HTTP/1.0 answers that end with the connection, ten at once"):
            small = (folder / "ä ö.txt").read_bytes()
            url = f"http://127.0.0.1:{lab.way(port, *flags)}/%C3%A4%20%C3%B6.txt"
            together(10, lambda _: equal(lab.primary.run("curl", "-sS", "--fail", "-0", url).stdout, small, "body"))
        with lab.row(f"{name}: an absent file is 404"):
            url = f"http://127.0.0.1:{lab.way(port, *flags)}/none"
            code = lab.primary.text("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url)
            equal(code, "404", "status")
