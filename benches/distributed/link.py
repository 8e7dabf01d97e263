"""What the cable between two hosts gives: run by `hosts.sh RATE python3 link.py`.

Rank 0 prints the bytes a second of one TCP connection, and the time of a byte there and back (median of
1000), which any program has to live with.
"""

import os
import socket
import statistics
import time

SIZE = 1 << 16
SECONDS = 3.0
PORT = 29501


def receive(connection, count):
    while count:
        count -= len(connection.recv(min(count, SIZE)))


def first(connection):
    trips = []
    for _ in range(1000):
        start = time.perf_counter()
        connection.sendall(b"?")
        receive(connection, 1)
        trips.append(time.perf_counter() - start)
    sent, block, start = 0, bytes(SIZE), time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        connection.sendall(block)
        sent += SIZE
    connection.shutdown(socket.SHUT_WR)
    # The other side says when the last byte has come.
    receive(connection, 1)
    seconds = time.perf_counter() - start
    trip = statistics.median(trips) * 1e6
    print(f"one connection: {sent / seconds / 1e6:.1f} MB/s; there and back: {trip:.0f} us")


def second(connection):
    for _ in range(1000):
        receive(connection, 1)
        connection.sendall(b"!")
    while connection.recv(SIZE):
        pass
    connection.sendall(b".")


def main():
    address = (os.environ["MASTER_ADDR"], PORT)
    if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
        with socket.create_server(address) as server:
            connection, _ = server.accept()
        role = first
    else:
        for _ in range(100):
            try:
                connection = socket.create_connection(address)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        role = second
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        role(connection)


main()
