#!/usr/bin/env node
// @ts-check
// What the load generators talk to. `targets.js answers` answers, `targets.js source` sends datagrams (it blocks while it does,
// so it is a process of its own). Ports are those of PORTS.

import { blast } from "./blast.js";
import { DatagramPort, Kind, LATE, Packet, writePacket } from "./datagram-port.js";
import { OCTET_PORTS, PORTS } from "./port-numbers.js";
import { allocate, bytes, listen, now, view } from "./sockets.js";

if (process.argv[2] === "source") source();
else answers();

function answers() {
  const ignore = () => {};
  /** @param {import("./sockets.js").Stream} stream */
  const close = (stream) => stream.close();
  const octet = allocate(1);
  // One octet for one octet, and then the target closes; or the client, if its octet is not 0.
  const octets = {
    onOpen: ignore,
    /** @param {import("./sockets.js").Stream} stream @param {number} start */
    onData(stream, start) {
      stream.send(octet, 1);
      if (bytes[start] === 0) stream.close();
    },
    onEnd: close,
    onError: ignore,
  };
  for (const port of OCTET_PORTS) listen(port, octets);
  const text = `HTTP/1.1 200 OK\r\ncontent-length: 128\r\n\r\n${"x".repeat(128)}`;
  const answer = allocate(text.length);
  bytes.set(Buffer.from(text), answer);
  // Every read is one request: the client sends none before it has the answer to the last.
  listen(PORTS.http, {
    onOpen: ignore,
    onData: (stream) => stream.send(answer, text.length),
    onEnd: close,
    onError: ignore,
  });

  const echo = DatagramPort.bound(PORTS.echo);
  echo.watch((start, octets) => echo.send(start, octets));

  /** Of the trial that is on. */
  let trial = Math.floor(now()) >>> 0;
  let arrived = 0;
  let inTime = 0;
  let at = 0;
  const report = allocate(Packet.OCTETS);
  const sink = DatagramPort.bound(PORTS.sink);
  sink.watch(
    (start) => {
      const of = view.getUint32(start + Packet.TRIAL);
      if (bytes[start + Packet.KIND] === Kind.REPORT) {
        const known = of === trial;
        writePacket(report, Kind.REPORTED, of, known ? arrived : 0, known ? inTime : 0);
        sink.send(report, Packet.OCTETS);
        return;
      }
      if (of !== trial) {
        // Stragglers of the trial before are not the next one's.
        if (((of - trial) | 0) < 0) return;
        trial = of;
        arrived = 0;
        inTime = 0;
      }
      arrived++;
      if (at - view.getFloat64(start + Packet.TIME) <= LATE) inTime++;
    },
    () => {
      at = now();
    },
  );
}

function source() {
  const end = allocate(Packet.OCTETS);
  const port = DatagramPort.bound(PORTS.source);
  let done = Math.floor(now()) >>> 0;
  let sent = 0;
  let microseconds = 0;
  port.watch((start) => {
    const trial = view.getUint32(start + Packet.TRIAL);
    if (((trial - done) | 0) < 0) return;
    if (trial !== done) {
      const [size, rate, milliseconds] = [0, 4, 8].map((n) =>
        view.getUint32(start + Packet.NUMBERS + n),
      );
      const order = { trial, size, rate, milliseconds };
      const result = blast(port, /** @type {Parameters<typeof blast>[1]} */ (order));
      done = trial;
      sent = result.sent;
      microseconds = result.seconds * 1e6;
    }
    writePacket(end, Kind.END, trial, sent, microseconds);
    port.send(end, Packet.OCTETS);
  });
}
