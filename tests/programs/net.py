"""Owns the machines of the laboratory: network namespaces, which only root may make.

    primary (10.1.0.2) - router1 - net (203.0.113.1, the rendezvous) - router2 - worker (10.2.0.2)

Both routers masquerade and let in answers only, so that nothing but Pilot leads from one machine to the other.
"""

import os
import shutil
import subprocess

PREFIX = f"pilot-lab{os.getpid()}-"
RENDEZVOUS = "203.0.113.1:9000"
ROUTER = """
table inet door {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iifname { "inside", "lo" } accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "inside" accept
  }
}
table ip nat {
  chain post {
    type nat hook postrouting priority 100;
    oifname "outside" masquerade
  }
}
"""


def why_not():
    """Returns why no laboratory can be made here; None where one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nft") if not shutil.which(tool)]
    if missing:
        return f"{' and '.join(missing)} missing (Debian: iproute2, nftables)"
    probe = subprocess.run(["ip", "netns", "add", PREFIX + "probe"], capture_output=True, text=True)
    if probe.returncode:
        return f"the kernel gives no network namespace: {probe.stderr.strip()}"
    ip("netns", "del", PREFIX + "probe")
    return None


def ip(*args, check=True):
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


class Net:
    """The namespaces; `down` removes them with everything that still runs in them."""

    def __init__(self):
        self.names = []

    def up(self):
        self.machine("net")
        ip("-n", PREFIX + "net", "link", "add", "wire", "type", "bridge")
        ip("-n", PREFIX + "net", "addr", "add", "203.0.113.1/24", "dev", "wire")
        ip("-n", PREFIX + "net", "link", "set", "wire", "up")
        for number, name in ((1, "primary"), (2, "worker")):
            router = f"router{number}"
            self.machine(router)
            self.machine(name)
            self.cable("net", f"port{number}", None, router, "outside", f"203.0.113.{number + 10}/24")
            ip("-n", PREFIX + "net", "link", "set", f"port{number}", "master", "wire")
            self.cable(router, "inside", f"10.{number}.0.1/24", name, "eth0", f"10.{number}.0.2/24")
            ip("-n", PREFIX + router, "route", "add", "default", "via", "203.0.113.1")
            ip("-n", PREFIX + name, "route", "add", "default", "via", f"10.{number}.0.1")
            self.inside(router, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
            self.inside(router, ["nft", "-f", "-"], ROUTER)

    def machine(self, name):
        ip("netns", "add", PREFIX + name)
        self.names.append(name)
        ip("-n", PREFIX + name, "link", "set", "lo", "up")

    def cable(self, one, one_card, one_address, other, other_card, other_address):
        ip("link", "add", one_card, "netns", PREFIX + one, "type", "veth", "peer", "name", other_card,
           "netns", PREFIX + other)
        for name, card, address in ((one, one_card, one_address), (other, other_card, other_address)):
            if address:
                ip("-n", PREFIX + name, "addr", "add", address, "dev", card)
            ip("-n", PREFIX + name, "link", "set", card, "up")

    def inside(self, name, args, text=None):
        done = subprocess.run(enter(name, args), input=text, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {' '.join(args)}: {done.stderr.strip()}")

    def down(self):
        for name in self.names:
            for pid in ip("netns", "pids", PREFIX + name, check=False).split():
                try:
                    os.kill(int(pid), 9)
                except ProcessLookupError:
                    pass  # the process has ended meanwhile
            ip("netns", "del", PREFIX + name, check=False)
        self.names = []


def enter(name, args):
    """Returns the command line that runs a command on a machine."""
    return ["ip", "netns", "exec", PREFIX + name, *args]
