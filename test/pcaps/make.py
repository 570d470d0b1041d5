#!/usr/bin/env python3
"""Makes the captures beside it: run as root, `unshare -n python3 make.py`. Kernel TCP talks to itself over lo."""

import os, socket, struct, subprocess, threading, time

V4, SERVER4, SERVER6, V6 = "198.51.100.2", "198.51.100.1", "2001:db8::1", "2001:db8::2"


class Capture:
    """What leaves through lo, as pcap (microseconds, Ethernet)."""

    def __init__(self, name):
        self.file = open(os.path.join(os.path.dirname(__file__), name), "wb")
        self.file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        self.tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.tap.bind(("lo", 0))
        self.tap.settimeout(0.5)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while True:
            try:
                frame, (_, _, kind, _, _) = self.tap.recvfrom(65535)
            except TimeoutError:
                return self.file.close()
            if kind != socket.PACKET_OUTGOING:
                continue
            now = time.time_ns() // 1000
            size = len(frame)
            self.file.write(struct.pack("<IIII", now // 10**6, now % 10**6, size, size) + frame)

    def close(self):
        self.thread.join()


def serve(family, address, port, talk):
    listener = socket.create_server((address, port), family=family)

    def accept():
        connection, _ = listener.accept()
        listener.close()
        talk(connection)
        connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    return thread


def connect(family, address, port, source):
    client = socket.socket(family)
    client.bind((source, 0))
    client.connect((address, port))
    return client


def read(connection):
    parts = iter(lambda: connection.recv(65536), b"")
    return b"".join(parts)


def download(connection):
    connection.recv(1000)
    connection.sendall(bytes(i * 7 & 255 for i in range(24000)))


def upper(connection):
    connection.sendall(read(connection).upper())


def reset(connection):
    connection.recv(1000)
    connection.sendall(b"no more")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


for command in (
    "ip link set lo mtu 1500 up",
    f"ip addr add {V4}/32 dev lo",
    f"ip addr add {SERVER4}/32 dev lo",
    f"ip addr add {V6}/128 dev lo nodad",
    f"ip addr add {SERVER6}/128 dev lo nodad",
):
    subprocess.run(command.split(), check=True)

capture = Capture("download.pcap")
server = serve(socket.AF_INET, SERVER4, 80, download)
client = connect(socket.AF_INET, SERVER4, 80, V4)
client.sendall(b"GET / HTTP/1.0\r\n\r\n")
read(client)
client.close()
server.join()
capture.close()

capture = Capture("endings.pcap")
# IPv6, half-close: the answer comes behind the client's FIN.
server = serve(socket.AF_INET6, SERVER6, 7, upper)
client = connect(socket.AF_INET6, SERVER6, 7, V6)
client.sendall(b"half ")
client.sendall(b"closed")
client.shutdown(socket.SHUT_WR)
read(client)
client.close()
server.join()
# Refused.
try:
    connect(socket.AF_INET, SERVER4, 9, V4)
except ConnectionRefusedError:
    pass
# The server resets behind its octets.
server = serve(socket.AF_INET, SERVER4, 13, reset)
client = connect(socket.AF_INET, SERVER4, 13, V4)
client.sendall(b"go on")
try:
    read(client)
except ConnectionResetError:
    pass
client.close()
server.join()
# A datagram and its answer, and one that is refused.
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind((SERVER4, 53))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind((V4, 0))
client.sendto(b"question", (SERVER4, 53))
question, who = echo.recvfrom(100)
echo.sendto(b"answer", who)
client.recv(100)
client.sendto(b"anybody?", (SERVER4, 54))
capture.close()
