"""Network cards: DHCP, files from and to the host, ports that lead to the guest, and what must not get through."""

import contextlib
import hashlib
import http.server
import os
import socket
import tempfile
import threading
import urllib.request

import switching

MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover", "net_failover", "virtio_net")
SECONDS = 120
SIZE = 10 << 20

DHCP = """#!/bin/sh
[ "$1" = bound ] || exit 0
busybox ifconfig "$interface" "$ip" netmask "$subnet"
[ -z "$router" ] || busybox route add default gw $router
echo "LEASE $ip router $router dns $dns"
"""


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()
        self.wfile.write(self.server.data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def host_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.data = os.urandom(SIZE)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], hashlib.md5(server.data).hexdigest()
    finally:
        server.shutdown()
        server.server_close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def register(run):
    @contextlib.contextmanager
    def guest(script, *options):
        modules = run.fetched("modules", "cloud-amd64")
        with tempfile.TemporaryDirectory() as directory:
            scripts = {"dhcp.sh": DHCP, "run.sh": "".join(f"busybox insmod /net/{name}.ko; " for name in MODULES) +
                       "busybox ifconfig lo 127.0.0.1 up; busybox ifconfig eth0 up && "
                       "busybox udhcpc -i eth0 -n -q -s /net/dhcp.sh -t 10 -T 1 || echo NO LEASE\n" + script}
            for name, text in scripts.items():
                with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                    file.write(text)
            files = [(os.path.join(modules, name + ".ko"), name + ".ko") for name in MODULES]
            files += [(os.path.join(directory, name), name) for name in scripts]
            initrd = switching.archive_of(directory, run.fetched("initrd", "busybox", "64"), "net", files)
            command = run.linux("cloud-amd64", 256, 'quiet segue.run="sh /net/run.sh"', initrd)
            command[command.index("-kernel") + 1] = os.path.join(modules, "vmlinuz")
            with run.Machine(command + list(options)) as machine:
                yield machine

    @run.test("network: DHCP, 10 MiB from the host, 10 MiB out of the guest by a forwarded port")
    def _():
        with host_server() as (port, digest):
            forwarded = free_port()
            script = (f"busybox wget -q -O /got http://10.0.2.2:{port}/ && busybox md5sum /got\n"
                      "mkdir /www; busybox mv /got /www/file; busybox httpd -p 80 -h /www\necho SERVING\nwhile [ ! -e /www/end ]; do busybox sleep 1; done\n")
            with guest(script, "-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{forwarded}-:80") as machine:
                machine.expect("LEASE 10.0.2.15 router 10.0.2.2 dns 10.0.2.3", SECONDS)
                machine.expect(digest, SECONDS)
                machine.expect("SERVING", SECONDS)
                with urllib.request.urlopen(f"http://127.0.0.1:{forwarded}/file", timeout=SECONDS) as answer:
                    data = answer.read()
                if hashlib.md5(data).hexdigest() != digest:
                    raise run.Failure(f"{len(data)} bytes came out of the guest, and they are other ones")

    @run.test("network: restrict=on gives an address and leads nowhere")
    def _():
        with host_server() as (port, digest):
            with guest(f"busybox wget -T 3 -q -O /got http://10.0.2.2:{port}/ || echo BLOCKED\n", "-nic", "user,model=virtio-net-pci,restrict=on") as machine:
                machine.expect("LEASE 10.0.2.15", SECONDS)
                machine.expect("BLOCKED", SECONDS)
                if digest.encode() in machine.output:
                    raise run.Failure("the file came through")

    @run.test("network: another range of addresses")
    def _():
        options = ("-netdev", "user,id=n,net=192.168.76.0/24,dhcpstart=192.168.76.40", "-device", "virtio-net-pci,netdev=n,mac=52:54:00:00:00:77")
        with guest("busybox cat /sys/class/net/eth0/address\n", *options) as machine:
            machine.expect("LEASE 192.168.76.40 router 192.168.76.2 dns 192.168.76.3", SECONDS)
            machine.expect("52:54:00:00:00:77", SECONDS)

    @run.test("network: none without a card")
    def _():
        with guest("busybox ls /sys/class/net; echo LISTED\n", "-nic", "none") as machine:
            machine.expect("NO LEASE", SECONDS)
            machine.expect("LISTED", SECONDS)
            if b"eth0\r" in machine.output.split(b"NO LEASE")[1]:
                raise run.Failure("there is a card")
