// The target of bench/udp.js: counts, floods, echoes. Usage: udp-server.js ADDRESS:PORT

import { HEADER, Kind, UdpSocket } from "./udp-socket.js";

/** What came of the last run. */
let run = 0;
let received = 0;

const socket = new UdpSocket({
  bind: process.argv[2],
  onMessage: (message, from) => {
    switch (message.kind) {
      case Kind.DATA:
        if (message.run !== run) received = 0;
        run = message.run;
        received++;
        break;
      case Kind.ECHO:
        socket.reply(message, from);
        break;
      case Kind.REPORT:
        socket.send(Kind.REPORT, message.run, [message.run === run ? received : 0], HEADER, from);
        break;
      case Kind.FLOOD:
        flood(message, Int32Array.from(from));
        break;
    }
  },
});

function flood({ run, a: size, b: rate, c: milliseconds, d: gso }, to) {
  const sent = socket.flood(run, size, rate, milliseconds, to, gso === 0);
  // Behind the last of the data; one of three arrives.
  setTimeout(() => {
    for (let i = 0; i < 3; i++) socket.send(Kind.REPORT, run, [sent], HEADER, to);
  }, 200);
}
