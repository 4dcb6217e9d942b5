"""A client of somebody who has the README of this folder and nothing else.

It makes a queue, sends, receives, hides and deletes, and checks what the specification promises:
layouts, CRCs, correlation, errors. `python3 stranger.py HOST PORT`; it says what went wrong, or ok.
"""

import socket
import struct
import sys
import zlib

QUEUE_DEFAULT = 0xFFFFFFFF
ANY_SHARD = 0xFFFF


class Refused(Exception):
    def __init__(self, number, text):
        super().__init__(f"{number}: {text}")
        self.number = number


class Reader:
    """Walks a payload by the grammar: a fixed part, strings, lists, optional fields."""

    def __init__(self, data):
        self.data = data

    def take(self, count):
        assert len(self.data) >= count, "a layout ends too soon"
        head, self.data = self.data[:count], self.data[count:]
        return head

    def number(self, kind):
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def numbers(self, kinds):
        return struct.unpack("<" + kinds, self.take(struct.calcsize("<" + kinds)))

    def fixed(self):
        return Reader(self.take(self.number("H")))

    def entries(self, count):
        return [Reader(self.take(self.number("I"))) for _ in range(count)]

    def fields(self):
        found = {}
        while self.data:
            tag, length = self.numbers("BI")
            found[tag] = self.take(length)
        return found


def layout(fixed=b"", strings=(), lists=(), fields=()):
    fixed += b"".join(struct.pack("<H", len(string)) for string in strings)
    fixed += b"".join(struct.pack("<H", len(entries)) for entries in lists)
    out = struct.pack("<H", len(fixed)) + fixed + b"".join(strings)
    for entries in lists:
        out += b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)
    for tag, value in fields:
        out += struct.pack("<BI", tag, len(value)) + value
    return out


class Client:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=30)
        self.input = b""
        self.next = 1
        payload = layout(struct.pack("<BBHQIIH", 1, 1, 0, 0, 0, 0, ANY_SHARD), [b"stranger/1.0"])
        fixed = self.ask(1, payload).fixed()
        version, revision, features, self.frame_bytes_max = fixed.numbers("BHQI")
        assert version == 1, "the broker speaks another version"
        assert self.frame_bytes_max >= 1_114_112, "a batch would not fit"

    def send_frame(self, operation, payload, spoil=False):
        correlation, self.next = self.next, self.next + 1
        body = struct.pack("<BBHI", 1, operation, 0, correlation) + payload
        crc = zlib.crc32(body) ^ (1 if spoil else 0)
        self.socket.sendall(struct.pack("<II", len(body), crc) + body)
        return correlation

    def read_frame(self):
        while len(self.input) < 8 or len(self.input) < 8 + struct.unpack("<I", self.input[:4])[0]:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.input += data
        length, crc = struct.unpack("<II", self.input[:8])
        body, self.input = self.input[8 : 8 + length], self.input[8 + length :]
        assert zlib.crc32(body) == crc, "the CRC of a reply is wrong"
        version, operation, flags, correlation = struct.unpack("<BBHI", body[:8])
        assert version == 1 and flags & 1, "not a reply of version 1"
        reader = Reader(body[8:])
        if flags & 2:
            number = reader.fixed().number("H")
            raise Refused(number, reader.fields().get(1, b"").decode())
        return operation, correlation, reader

    def ask(self, operation, payload):
        wanted = self.send_frame(operation, payload)
        answered, correlation, reader = self.read_frame()
        assert (answered, correlation) == (operation, wanted), "an answer to something else"
        return reader

    def create(self, name):
        reader = self.ask(9, layout(strings=[b"", b"", name.encode()], lists=[[], []]))
        return reader.fixed().number("Q")

    def send(self, queue, bodies, attribute=None):
        entries = []
        for body in bodies:
            content = body
            if attribute:
                name, value = attribute
                entry = struct.pack("<HHI", len(name), len(b"String"), len(value))
                entry = struct.pack("<H", len(entry)) + entry + name + b"String" + value
                value = layout(lists=[[entry]])
                content += struct.pack("<BI", 3, len(value)) + value
            entries.append(layout(struct.pack("<HI", 0, len(body))) + content)
        reader = self.ask(4, layout(struct.pack("<Q", queue), lists=[entries]))
        return self.outcomes(reader, "H16sQ")

    def outcomes(self, reader, kinds):
        outcomes = []
        for entry in reader.entries(reader.fixed().number("H")):
            outcome = entry.fixed().numbers(kinds)
            if outcome[0]:
                raise Refused(outcome[0], entry.fields().get(1, b"").decode())
            outcomes.append(outcome)
        return outcomes

    def receive(self, queue, most=10, wait_ms=2000, visibility=QUEUE_DEFAULT):
        payload = layout(struct.pack("<QBHIII", queue, most, 0, wait_ms, visibility, 0xFFFFFFFF))
        reader = self.ask(5, payload)
        messages = []
        for entry in reader.entries(reader.fixed().number("H")):
            fixed = entry.fixed()
            flags, identity, sequence, sent_at, first, count, handle_length, body_length = fixed.numbers("H16sQQQIHI")
            handle = entry.take(handle_length)
            body = entry.take(body_length)
            messages.append({"id": identity, "handle": handle, "body": body, "count": count, "fields": entry.fields()})
        return messages

    def delete(self, queue, handles):
        payload = layout(struct.pack("<Q", queue), lists=[[layout(strings=[handle]) for handle in handles]])
        return self.outcomes(self.ask(6, payload), "H")

    def hide(self, queue, handle, seconds):
        entry = layout(struct.pack("<I", seconds), [handle])
        return self.outcomes(self.ask(7, layout(struct.pack("<Q", queue), lists=[[entry]])), "H")


def attribute_of(message):
    reader = Reader(message["fields"][3])
    (entry,) = reader.entries(reader.fixed().number("H"))
    name_length, type_length, value_length = entry.fixed().numbers("HHI")
    return entry.take(name_length), entry.take(type_length), entry.take(value_length)


def main(host, port):
    client = Client(host, port)
    queue = client.create("a-stranger")
    sent = client.send(queue, [b"one", b"two", bytes(range(256))], attribute=(b"colour", b"red"))
    assert len({outcome[1] for outcome in sent}) == 3, "ids differ"

    received = []
    while len(received) < 3:
        received += client.receive(queue, most=2)
    assert sorted(message["body"] for message in received) == sorted([b"one", b"two", bytes(range(256))])
    assert {message["id"] for message in received} == {outcome[1] for outcome in sent}
    assert all(attribute_of(message) == (b"colour", b"String", b"red") for message in received)
    assert client.receive(queue, wait_ms=0) == [], "what is received is hidden"

    client.hide(queue, received[0]["handle"], 0)
    (again,) = client.receive(queue)
    assert again["body"] == received[0]["body"] and again["count"] == 2 and again["handle"] != received[0]["handle"]
    client.delete(queue, [again["handle"]] + [message["handle"] for message in received[1:]])
    client.delete(queue, [again["handle"]])
    assert client.receive(queue, wait_ms=0) == [], "what is deleted is gone"

    for operation, payload, number in [
        (2, layout(strings=[b"", b"", b"no-such-queue"]), 101),
        (6, layout(struct.pack("<Q", queue), lists=[[layout(strings=[b"no handle"])]]), 117),
        (200, layout(), 5),
    ]:
        try:
            reader = client.ask(operation, payload)
            client.outcomes(reader, "H")
            raise AssertionError(f"operation {operation} is to be refused")
        except Refused as refused:
            assert refused.number == number, f"operation {operation} is refused with {refused}"

    # Requests without waiting: answers are matched by their ids.
    empty = layout(struct.pack("<QBHIII", queue, 1, 0, 20_000, QUEUE_DEFAULT, 0xFFFFFFFF))
    waiting = client.send_frame(5, empty)
    ping = client.send_frame(25, layout(strings=[b"echo"]))
    operation, correlation, reader = client.read_frame()
    length = reader.fixed().number("H")
    assert (operation, correlation, reader.take(length)) == (25, ping, b"echo"), "a ping passes a receive that waits"
    goodbye = client.send_frame(26, layout())
    answers = {client.read_frame()[1], client.read_frame()[1]}
    assert answers == {waiting, goodbye}, "a receive that waits is answered before goodbye"
    assert client.read_frame() is None, "the broker closes after goodbye"

    spoiled = Client(host, port)
    spoiled.send_frame(25, layout(strings=[b""]), spoil=True)
    try:
        spoiled.read_frame()
        raise AssertionError("a wrong CRC is to be refused")
    except Refused as refused:
        assert refused.number == 2
    assert spoiled.read_frame() is None, "the broker closes behind a wrong CRC"
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
