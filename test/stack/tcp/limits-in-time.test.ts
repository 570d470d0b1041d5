/** How often and how long: repetitions, tombstones, TIME-WAIT. Not earlier and not later. */

import { expect, test } from "vitest";
import { drill, established, TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

test("the SYN-ACK is sent six times, and 32 s after the last the open is given up (RFC 9293 §3.8.3)", () => {
  drill(`
    0          < S 0:0(0) win 65535 <mss 1460>
    +0         * open
    +0         accept()
    +0         > S. 0:0(0) ack 1
    +1~1.02    > S. 0:0(0) ack 1
    +2~2.02    > S. 0:0(0) ack 1
    +4~4.02    > S. 0:0(0) ack 1
    +8~8.02    > S. 0:0(0) ack 1
    +16~16.02  > S. 0:0(0) ack 1
    +32~32.02  * closed timeout
  `);
});

test("a client that is silent is given up at the first time-out after two minutes (RFC 9293 §3.8.3)", () => {
  drill(
    established(),
    `
    +0       mute(on)
    +0       send(1000)
    +120~170 * closed timeout
    `,
  );
});

test("a tombstone absorbs duplicates for 130 s, however often they come", () => {
  drill(`
    0    < S 0:0(0) win 65535 <mss 1460>
    +0   * open
    +0   forget()
    +60  < S 0:0(0) win 65535 <mss 1460>
    +60  < S 0:0(0) win 65535 <mss 1460>
    +9   < S 0:0(0) win 65535 <mss 1460>
    +1.1 < S 0:0(0) win 65535 <mss 1460>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
  `);
});

test("TIME-WAIT lasts ten seconds, and no less (RFC 9293 §3.4.2, §3.6.1)", () => {
  drill(
    established(),
    `
    +0   shutdown()
    +0   > F. 1:1(0) ack 1
    +0   < F. 1:1(0) ack 2
    +0   * fin
    +0   > . 2 ack 2
    +0   * closed closed
    +9.9 < F. 1:1(0) ack 2
    +0   > . 2 ack 2
    +10.1 < F. 1:1(0) ack 2
    +0   > R 2:2(0)
    `,
  );
});

test("the ISN of the next connection exceeds all numbers of the last (RFC 9293 §3.4.1)", () => {
  const { trace } = drill(
    established(),
    `
    // Faster than the clock of ISNs, which gives 250 a millisecond.
    +0   send(14600)
    +0   > P. 1:14601(14600) ack 1
    +0   < . 1 ack 14601 win 512
    +0   shutdown()
    +0   > F. 14601:14601(0) ack 1
    +0   < F. 1:1(0) ack 14602
    +0   * fin
    +0   > . 14602 ack 2
    +0   * closed closed
    +0   isn(900000)
    +0   < S 0:0(0) win 65535 <mss 1460>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    `,
  );
  const fin = trace.find(({ packet }) => (packet.flags & TcpFlag.FIN) !== 0)!.packet;
  expect((trace.at(-1)!.packet.seq - fin.seq) | 0).toBeGreaterThan(65_535);
});

test("an ICMP error that quotes another number ends no open (RFC 5927 §4.1)", () => {
  const pending = new RecordingDriver();
  const client = new RawClient(pending);
  pending.inject(client.syn());
  pending.inject(client.complaint({ source: "client", seq: client.isn + 1 }));
  expect([pending.opened[0]!.closed, pending.stack.stats.tcpIcmpIgnored]).toEqual([null, 1]);
  pending.inject(client.complaint({ source: "client", seq: client.isn }));
  expect(pending.opened[0]!.closed).toBe("refused-by-client");

  const opening = new RecordingDriver();
  const other = new RawClient(opening);
  opening.inject(other.syn());
  opening.opened[0]!.flow.connection.accept();
  opening.turn();
  other.hearAll();
  opening.inject(other.complaint({ source: "target", seq: other.peerIsn + 1 }));
  expect([opening.opened[0]!.closed, opening.stack.stats.tcpIcmpIgnored]).toEqual([null, 1]);
  opening.inject(other.complaint({ source: "target", seq: other.peerIsn }));
  expect(opening.opened[0]!.closed).toBe("refused-by-client");
});

test("a SYN with FIN opens nothing, and its RST acknowledges both (RFC 9293 §3.10.7.1)", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  driver.inject(client.segment(TcpFlag.SYN | TcpFlag.FIN, 0));
  expect(driver.opened).toEqual([]);
  const [reset] = driver.takeTcp();
  expect([reset!.flags, reset!.ack - client.isn]).toEqual([TcpFlag.RST | TcpFlag.ACK, 2]);
});

test("behind 2,048 holes nothing more is kept, and it is counted", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  client.open();
  for (let n = 1; n <= 2052; n++) driver.inject(client.segment(TcpFlag.ACK, 1 + 2 * n, 1));
  expect(driver.stack.stats.tcpReassemblyNoMemory).toBe(4);
});
