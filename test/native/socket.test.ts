import { closeSync, fstatSync, openSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addon, DGRAM_RX_ROW, DGRAM_TX_ROW, Epoll } from "../../src/native/binding.ts";
import { errno, loopback4, loopback6, portOf, Readiness } from "./readiness.ts";

const native = addon();
const ready = new Readiness();
const bytes = new Uint8Array(native.reserve(32 << 20));
const ANY6 = Int32Array.of(0, 0, 0, 0, 0);
const RX = 16 << 20;

beforeAll(() => ready.start());
afterAll(() => ready.stop());

function text(offset: number, length: number): string {
  return Buffer.from(bytes.subarray(offset, offset + length)).toString("latin1");
}

function put(offset: number, value: string): number {
  bytes.set(Buffer.from(value, "latin1"), offset);
  return value.length;
}

async function pair(address = loopback4(0)): Promise<{ client: number; server: number }> {
  const listener = native.tcpListen(address, 16);
  const target = address.slice();
  target[4] = portOf(listener);
  const client = native.tcpConnect(target, 0, "", 30_000);
  expect(client).toBeGreaterThanOrEqual(0);
  await ready.readable(listener);
  const server = native.tcpAccept(listener, null);
  native.close(listener);
  await ready.writable(client);
  expect(native.socketError(client)).toBe(0);
  return { client, server };
}

describe("stream sockets", () => {
  test.each([
    ["IPv4", loopback4(0)],
    ["IPv6", loopback6(0)],
  ])("connect, accept and exchange rows over %s", async (_, address) => {
    const { client, server } = await pair(address);
    const a = put(0, "hello ");
    const b = put(100, "world");
    expect(native.send(client, Int32Array.of(0, a, 100, b), 2)).toBe(11);
    await ready.readable(server);
    const rows = Int32Array.of(1000, 3, 2000, 100);
    expect(native.recv(server, rows, 2)).toBe(11);
    expect(text(1000, 3) + text(2000, 8)).toBe("hello world");
    expect(native.recv(server, rows, 2)).toBe(-errno.EAGAIN);
    native.close(client);
    native.close(server);
  });

  test.each([
    ["IPv4", loopback4(0), Int32Array.of(0, 0, 0xffff, 0x7f000002, 0)],
    ["IPv6", loopback6(0), loopback6(0)],
  ])("a connection leaves from the source that is given, %s", async (_, address, source) => {
    const listener = native.tcpListen(address, 16);
    const target = address.slice();
    target[4] = portOf(listener);
    const client = native.tcpConnect(target, 0, "", 0, source);
    expect(client).toBeGreaterThanOrEqual(0);
    await ready.readable(listener);
    const peer = new Int32Array(5);
    const server = native.tcpAccept(listener, peer);
    expect([...peer.subarray(0, 4)]).toEqual([...source.subarray(0, 4)]);
    const local = new Int32Array(5);
    native.localAddress(client, local);
    expect(local).toEqual(peer);
    for (const fd of [client, server, listener]) native.close(fd);
  });

  test("a source of another host or family is refused", () => {
    const other = Int32Array.of(0, 0, 0xffff, 0xc0000201 | 0, 0);
    expect(native.tcpConnect(loopback4(1), 0, "", 0, other)).toBe(-errno.EADDRNOTAVAIL);
    expect(native.tcpConnect(loopback4(1), 0, "", 0, loopback6(0))).toBe(-errno.EAFNOSUPPORT);
  });

  test("addresses come back as the words that were given", async () => {
    const { client, server } = await pair(loopback6(0));
    const local = new Int32Array(5);
    const peer = new Int32Array(5);
    expect(native.localAddress(client, local)).toBe(0);
    expect(native.peerAddress(server, peer)).toBe(0);
    expect([...peer]).toEqual([...local]);
    expect([...local.subarray(0, 4)]).toEqual([0, 0, 0, 1]);
    native.close(client);
    native.close(server);
  });

  test("a listener on :: takes IPv4 and reports the peer v4-mapped", async () => {
    const listener = native.tcpListen(ANY6, 16);
    const client = native.tcpConnect(loopback4(portOf(listener)), 0, "", 0);
    await ready.readable(listener);
    const peer = new Int32Array(5);
    const server = native.tcpAccept(listener, peer);
    expect([...peer]).toEqual([...loopback4(portOf(client))]);
    for (const fd of [client, server, listener]) native.close(fd);
  });

  test("accept without a caller is EAGAIN", () => {
    const listener = native.tcpListen(loopback4(0), 1);
    expect(native.tcpAccept(listener, null)).toBe(-errno.EAGAIN);
    native.close(listener);
  });

  test("shutdown is end of stream for the peer, and the other direction lives on", async () => {
    const { client, server } = await pair();
    put(0, "x");
    native.send(client, Int32Array.of(0, 1), 1);
    expect(native.shutdown(client)).toBe(0);
    expect((await ready.readable(server)) & Epoll.IN).toBe(Epoll.IN);
    const rows = Int32Array.of(0, 100);
    expect(native.recv(server, rows, 1)).toBe(1);
    expect((await ready.readable(server)) & Epoll.RDHUP).toBe(Epoll.RDHUP);
    expect(native.recv(server, rows, 1)).toBe(0);
    expect(native.send(server, Int32Array.of(0, 1), 1)).toBe(1);
    await ready.readable(client);
    expect(native.recv(client, rows, 1)).toBe(1);
    native.close(client);
    native.close(server);
  });

  test("reset is ECONNRESET for the peer", async () => {
    const { client, server } = await pair();
    native.reset(server);
    expect((await ready.readable(client)) & Epoll.ERR).toBe(Epoll.ERR);
    expect(native.recv(client, Int32Array.of(0, 100), 1)).toBe(-errno.ECONNRESET);
    native.close(client);
  });

  test("a closed port is ECONNREFUSED, once", async () => {
    const listener = native.tcpListen(loopback4(0), 1);
    const port = portOf(listener);
    native.close(listener);
    const client = native.tcpConnect(loopback4(port), 0, "", 0);
    if (client >= 0) {
      await ready.writable(client);
      expect(native.socketError(client)).toBe(errno.ECONNREFUSED);
      expect(native.socketError(client)).toBe(0);
      native.close(client);
    } else expect(client).toBe(-errno.ECONNREFUSED);
  });

  test("a peer that does not read makes send stop with EAGAIN, then writable again", async () => {
    const { client, server } = await pair();
    const rows = Int32Array.of(0, 1 << 20);
    let sent = 0;
    for (let i = 0; i < 1000; i++) {
      const result = native.send(client, rows, 1);
      if (result < 0) {
        expect(result).toBe(-errno.EAGAIN);
        break;
      }
      sent += result;
    }
    const writable = ready.writable(client);
    let got = 0;
    while (got < sent) {
      const result = native.recv(server, rows, 1);
      if (result > 0) got += result;
      else await ready.readable(server);
    }
    expect((await writable) & Epoll.OUT).toBe(Epoll.OUT);
    native.close(client);
    native.close(server);
  });

  test("outstanding counts what the peer has not acknowledged; keepAlive is refused elsewhere", async () => {
    const { client, server } = await pair();
    expect(native.outstanding(client)).toBe(0);
    let sent = 0;
    for (let i = 0; i < 1000; i++) {
      const result = native.send(client, Int32Array.of(0, 1 << 20), 1);
      if (result < 0) break;
      sent += result;
    }
    expect(native.outstanding(client)).toBeGreaterThan(0);
    expect(native.outstanding(client)).toBeLessThanOrEqual(sent);
    expect(native.outstanding(-1)).toBe(-errno.EBADF);
    expect(native.keepAlive(client, 60, 10, 6)).toBe(0);
    expect(native.keepAlive(client, 0, 10, 6)).toBe(-errno.EINVAL);
    expect(native.keepAlive(-1, 60, 10, 6)).toBe(-errno.EBADF);
    native.reset(client);
    native.close(server);
  });

  test("a device that does not exist fails the call and leaks nothing", () => {
    expect(native.tcpConnect(loopback4(1), 0, "nosuchdevice0", 0)).toBe(-errno.ENODEV);
    expect(native.tcpConnect(loopback4(1), 0, "a-name-too-long-for-linux", 0)).toBe(-errno.EINVAL);
    expect(native.udpOpen(null, true, 0, "nosuchdevice0")).toBe(-errno.ENODEV);
  });
});

describe("rows that lie", () => {
  test.each([
    ["a negative offset", Int32Array.of(-1, 1), 1],
    ["a negative length", Int32Array.of(0, -1), 1],
    ["a range past the end", Int32Array.of((32 << 20) - 1, 2), 1],
    ["an offset and length whose sum wraps", Int32Array.of(2 ** 31 - 1, 2 ** 31 - 1), 1],
    ["more rows than the array has", Int32Array.of(0, 1), 2],
    ["a negative count", Int32Array.of(0, 1), -1],
  ])("%s is EFAULT, for streams and datagrams", async (_, rows, count) => {
    const { client, server } = await pair();
    expect(native.send(client, rows, count)).toBe(-errno.EFAULT);
    expect(native.recv(server, rows, count)).toBe(-errno.EFAULT);
    native.close(client);
    native.close(server);
  });

  test("datagram ranges outside the memory are EFAULT", () => {
    const fd = native.udpOpen(loopback4(0), false, 0, "");
    const rows = new Int32Array(DGRAM_TX_ROW);
    expect(native.recvBatch(fd, rows, -1, 100)).toBe(-errno.EFAULT);
    expect(native.recvBatch(fd, rows, 0, (32 << 20) + 4096)).toBe(-errno.EFAULT);
    expect(native.recvBatch(fd, rows, 100, 100)).toBe(-errno.EFAULT);
    rows.set([0, 0, 32 << 20, 1, ...loopback4(9), 0]);
    expect(native.sendBatch(fd, rows, 1)).toBe(-errno.EFAULT);
    expect(native.sendBatch(fd, rows, 2)).toBe(-errno.EFAULT);
    native.close(fd);
  });

  test("arguments of the wrong type are errors, not crashes", () => {
    const bad = "x" as unknown as Int32Array;
    const f64 = new Float64Array(8) as unknown as Int32Array;
    expect(native.tcpConnect(bad, 0, "", 0)).toBe(-errno.EINVAL);
    expect(native.tcpListen(f64, 1)).toBe(-errno.EINVAL);
    expect(native.tcpListen(new Int32Array(4), 1)).toBe(-errno.EINVAL);
    expect(native.recv(bad as unknown as number, bad, 1)).toBe(-errno.EFAULT);
    expect(native.close(-1)).toBeUndefined();
    expect(native.recv(-1, Int32Array.of(0, 1), 1)).toBe(-errno.EBADF);
  });

  test("a descriptor of somebody else survives close and reset", () => {
    const fd = openSync("/dev/null", "r");
    native.close(fd);
    native.reset(fd);
    expect(fstatSync(fd).isCharacterDevice()).toBe(true);
    closeSync(fd);
  });
});

describe("readiness", () => {
  test("level-triggered: what is left unread is reported again", async () => {
    const { client, server } = await pair();
    native.send(client, Int32Array.of(0, 2), 1);
    native.shutdown(client);
    await ready.readable(server);
    const before = ready.wakeUps;
    await ready.readable(server);
    expect(native.recv(server, Int32Array.of(0, 1), 1)).toBe(1);
    await ready.readable(server);
    expect(ready.wakeUps - before).toBe(2);
    expect(native.recv(server, Int32Array.of(0, 1), 1)).toBe(1);
    await ready.readable(server);
    expect(native.recv(server, Int32Array.of(0, 1), 1)).toBe(0);
    native.close(client);
    native.close(server);
  });

  test("modify changes the bits; add twice is EEXIST, remove twice ENOENT", async () => {
    const { client, server } = await pair();
    const quiet = ready.wait(server, Epoll.RDHUP);
    native.send(client, Int32Array.of(0, 2), 1);
    expect(native.pollModify(server, server, Epoll.IN)).toBe(0);
    expect(native.pollAdd(server, server, Epoll.IN)).toBe(-errno.EEXIST);
    expect(await quiet).toBe(Epoll.IN);
    expect(native.pollRemove(server)).toBe(-errno.ENOENT);
    expect(native.pollModify(server, server, Epoll.IN)).toBe(-errno.ENOENT);
    native.close(client);
    native.close(server);
  });

  test("closing a watched descriptor ends its membership", async () => {
    const { client, server } = await pair();
    const never = ready.readable(server);
    never.catch(() => {});
    native.close(server);
    expect((await ready.readable(client)) & Epoll.RDHUP).toBe(Epoll.RDHUP);
    native.close(client);
  });

  test("a second start throws", () => {
    expect(() => native.pollStart(new Int32Array(8), () => {})).toThrow(
      expect.objectContaining({ code: "EEXIST", syscall: "pollStart" }),
    );
  });
});

describe("datagrams", () => {
  function row(rows: Int32Array, i: number, values: readonly number[]): void {
    rows.set(values, i * DGRAM_TX_ROW);
  }

  test.each([
    ["IPv4", loopback4],
    ["IPv6", loopback6],
  ])(
    "100 left alone leave by one call and arrive in batches of at most 64 over %s",
    async (_, loopback) => {
      const sender = native.udpOpen(loopback(0), false, 0, "");
      const receiver = native.udpOpen(loopback(0), false, 0, "");
      const rows = new Int32Array(100 * DGRAM_TX_ROW);
      const head = put(0, "head");
      for (let i = 0; i < 100; i++) {
        const length = put(1000 + i * 16, `-payload ${i}`);
        row(rows, i, [0, head, 1000 + i * 16, length, ...loopback(portOf(receiver)), 1]);
      }
      expect(native.sendBatch(sender, rows, 100)).toBe(100);

      const got = new Int32Array(64 * DGRAM_RX_ROW);
      const seen: string[] = [];
      for (const expected of [64, 36]) {
        await ready.readable(receiver);
        expect(native.recvBatch(receiver, got, RX, RX + (8 << 20))).toBe(expected);
        for (let i = 0; i < expected; i++) {
          const at = i * DGRAM_RX_ROW;
          seen.push(text(got[at] as number, got[at + 1] as number));
          expect([...got.subarray(at + 2, at + 7)]).toEqual([...loopback(portOf(sender))]);
          expect(got[at + 7]).toBe(0);
        }
      }
      expect(seen).toEqual(Array.from({ length: 100 }, (_unused, i) => `head-payload ${i}`));
      expect(native.recvBatch(receiver, got, RX, RX + (8 << 20))).toBe(-errno.EAGAIN);
      native.close(sender);
      native.close(receiver);
    },
  );

  test.each([
    ["IPv4", loopback4],
    ["IPv6", loopback6],
  ])(
    "neighbours of one size to one address are one message over %s (UDP_SEGMENT, UDP_GRO)",
    async (_, loopback) => {
      const sender = native.udpOpen(loopback(0), false, 0, "");
      const receivers = [0, 1].map(() => native.udpOpen(loopback(0), false, 0, ""));
      const rows = new Int32Array(64 * DGRAM_TX_ROW);
      const head = put(0, "head");
      // What joins is up to a shorter one, another size, another address, or one to be left alone.
      const plan: ReadonlyArray<readonly [size: number, receiver: number, alone: number]> = [
        [8, 0, 0],
        [8, 0, 0],
        [5, 0, 0],
        [9, 0, 0],
        [9, 0, 0],
        [9, 1, 0],
        [9, 1, 0],
        [9, 0, 1],
        [9, 0, 1],
        [7, 0, 0],
        [0, 0, 0],
      ];
      plan.forEach(([size, to, alone], i) => {
        put(1000 + i * 16, `${i}`.padEnd(size, ".").slice(0, size));
        const port = portOf(receivers[to] as number);
        row(rows, i, [0, head, 1000 + i * 16, size, ...loopback(port), alone]);
      });
      expect(native.sendBatch(sender, rows, plan.length)).toBe(plan.length);

      const got = new Int32Array(64 * DGRAM_RX_ROW);
      const messages: string[][] = [];
      for (const receiver of receivers) {
        await ready.readable(receiver);
        const count = native.recvBatch(receiver, got, RX, RX + (8 << 20));
        const seen: string[] = [];
        for (let i = 0; i < count; i++) {
          const at = i * DGRAM_RX_ROW;
          const content = text(got[at] as number, got[at + 1] as number);
          seen.push(`${got[at + 8]} ${content}`);
        }
        messages.push(seen);
        native.close(receiver);
      }
      expect(messages).toEqual([
        [
          "12 head0.......head1.......head2....",
          "13 head3........head4........",
          "0 head7........",
          "0 head8........",
          "11 head9......head",
        ],
        ["13 head5........head6........"],
      ]);
      native.close(sender);
    },
  );

  test("a message is at most 64 datagrams, and no longer than a packet", async () => {
    const sender = native.udpOpen(loopback4(0), false, 0, "");
    const receiver = native.udpOpen(loopback4(0), false, 0, "");
    const got = new Int32Array(64 * DGRAM_RX_ROW);
    for (const [size, lengths] of [
      [10, [640, 360]],
      [1400, [46 * 1400, 18 * 1400, 36 * 1400]],
      [40_000, [40_000, 40_000]],
    ] as const) {
      const count = size === 40_000 ? 2 : 100;
      const rows = new Int32Array(count * DGRAM_TX_ROW);
      for (let i = 0; i < count; i++)
        row(rows, i, [0, 0, 0, size, ...loopback4(portOf(receiver)), 0]);
      expect(native.sendBatch(sender, rows, count)).toBe(count);
      await ready.readable(receiver);
      const messages = native.recvBatch(receiver, got, RX, RX + (8 << 20));
      expect(Array.from({ length: messages }, (_, i) => got[i * DGRAM_RX_ROW + 1])).toEqual([
        ...lengths,
      ]);
    }
    native.close(sender);
    native.close(receiver);
  });

  test("small messages lie side by side, large ones behind them and whole", async () => {
    const sender = native.udpOpen(loopback4(0), false, 0, "");
    const receiver = native.udpOpen(loopback4(0), false, 0, "");
    const sizes = [2048, 2049, 1, 60_000, 0, 2047];
    const rows = new Int32Array(sizes.length * DGRAM_TX_ROW);
    for (let i = 0; i < 60_000; i++) bytes[i] = i % 251;
    const to = loopback4(portOf(receiver));
    for (const [i, size] of sizes.entries()) row(rows, i, [0, 0, i, size, ...to, 1]);
    expect(native.sendBatch(sender, rows, sizes.length)).toBe(sizes.length);
    await ready.readable(receiver);
    const got = new Int32Array(64 * DGRAM_RX_ROW);
    expect(native.recvBatch(receiver, got, RX, RX + (8 << 20))).toBe(sizes.length);
    sizes.forEach((size, i) => {
      const at = got[i * DGRAM_RX_ROW] as number;
      expect(got[i * DGRAM_RX_ROW + 1]).toBe(size);
      const whole = Buffer.from(bytes.subarray(at, at + size)).equals(bytes.subarray(i, i + size));
      expect(whole, `datagram ${i}`).toBe(true);
      if (size <= 2048) expect(at).toBe(RX + i * 2048);
    });
    native.close(sender);
    native.close(receiver);
  });

  test("the largest datagram arrives whole; one that does not fit is marked truncated", async () => {
    const sender = native.udpOpen(loopback4(0), false, 0, "");
    const receiver = native.udpOpen(loopback4(0), false, 0, "");
    const rows = new Int32Array(DGRAM_TX_ROW);
    rows.set([0, 0, 0, 65_507, ...loopback4(portOf(receiver)), 0]);
    bytes.fill(5, 0, 65_507);
    const got = new Int32Array(4 * DGRAM_RX_ROW);

    expect(native.sendBatch(sender, rows, 1)).toBe(1);
    await ready.readable(receiver);
    expect(native.recvBatch(receiver, got, RX, RX + (1 << 20))).toBe(1);
    expect([got[1], got[7]]).toEqual([65_507, 0]);
    expect(bytes[RX + 65_506]).toBe(5);

    expect(native.sendBatch(sender, rows, 1)).toBe(1);
    await ready.readable(receiver);
    expect(native.recvBatch(receiver, got, RX, RX + 1000)).toBe(1);
    expect([got[1], got[7]]).toEqual([1000, 1]);

    rows[3] = 65_508;
    expect(native.sendBatch(sender, rows, 1)).toBe(-errno.EMSGSIZE);
    native.close(sender);
    native.close(receiver);
  });

  test("a connected socket sends to its peer and hears its port unreachable", async () => {
    const receiver = native.udpOpen(loopback4(0), false, 0, "");
    const sender = native.udpOpen(null, false, 0, "");
    expect(native.udpConnect(sender, loopback4(portOf(receiver)))).toBe(0);
    const rows = new Int32Array(DGRAM_TX_ROW);
    rows[3] = 10;
    expect(native.sendBatch(sender, rows, 1)).toBe(1);
    const got = new Int32Array(DGRAM_RX_ROW);
    await ready.readable(receiver);
    expect(native.recvBatch(receiver, got, RX, RX + (1 << 20))).toBe(1);
    expect(got[1]).toBe(10);

    native.close(receiver);
    expect(native.sendBatch(sender, rows, 1)).toBe(1);
    expect((await ready.wait(sender, Epoll.IN)) & Epoll.ERR).toBe(Epoll.ERR);
    expect(native.recvBatch(sender, got, RX, RX + (1 << 20))).toBe(-errno.ECONNREFUSED);
    native.close(sender);
  });

  test("an IPv6 socket reaches IPv4; an IPv4 socket asked for IPv6 is EAFNOSUPPORT", async () => {
    const receiver = native.udpOpen(loopback4(0), false, 0, "");
    const six = native.udpOpen(ANY6, true, 0, "");
    const rows = new Int32Array(2 * DGRAM_TX_ROW);
    row(rows, 0, [0, 0, 0, 4, ...loopback4(portOf(receiver)), 0]);
    row(rows, 1, [0, 0, 0, 4, ...loopback6(portOf(receiver)), 0]);
    expect(native.sendBatch(six, rows, 1)).toBe(1);
    await ready.readable(receiver);
    const got = new Int32Array(DGRAM_RX_ROW);
    expect(native.recvBatch(receiver, got, RX, RX + (1 << 20))).toBe(1);
    expect(native.sendBatch(receiver, rows.subarray(DGRAM_TX_ROW), 1)).toBe(-errno.EAFNOSUPPORT);
    expect(native.sendBatch(receiver, rows, 2)).toBe(1);
    expect(native.udpConnect(receiver, loopback6(9))).toBe(-errno.EAFNOSUPPORT);
    native.close(receiver);
    native.close(six);
  });
});
