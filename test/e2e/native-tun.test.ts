import { execFile, execFileSync } from "node:child_process";
import { existsSync, readlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MemoryLayout } from "../../src/memory.ts";
import type { Handle, TunInfo } from "../../src/native/binding.ts";
import { addon, Offload, RX_ROW } from "../../src/native/binding.ts";
import { LinuxTun } from "../../src/tun/linux-tun.ts";

const native = addon();
const bytes = new Uint8Array(native.reserve(8 << 20));
const RX_END = 2 << 20;
const HEAD = 3 << 20;
const DATA = 4 << 20;
const NETNS = `t2s-native-${process.pid}`;
const PATH = `/run/netns/${NETNS}`;
const EBADFD = 77;
const ALL = 0x6f;
const run = promisify(execFile);
const library = fileURLToPath(new URL("../../build/Release/tun2socks.node", import.meta.url));

function ip(...args: string[]): string {
  return execFileSync("ip", ["-n", NETNS, ...args], { encoding: "utf8" });
}

interface Packet {
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly gsoSize: number;
  readonly csumStart: number;
  readonly csumOffset: number;
}

/** A watched TUN that keeps copies of what came, and lets a test wait for the packet it means. */
class Watched {
  readonly handle: Handle;
  readonly #rows = new Int32Array(64 * RX_ROW);
  readonly #packets: Packet[] = [];
  #wake: () => void = () => {};
  /** Set when the device failed for good. */
  failure = 0;

  constructor(info: TunInfo) {
    this.handle = native.tunStart(info.fd, info.vnetHeader, 0, RX_END, this.#rows, (count) => {
      this.#take(count);
      this.#wake();
    });
  }

  #take(count: number): void {
    if (count < 0) this.failure = count;
    for (let i = 0; i < count; i++) {
      const [offset, length, flags, gsoSize, csumStart, csumOffset] = this.#rows.subarray(
        i * RX_ROW,
        (i + 1) * RX_ROW,
      ) as unknown as [number, number, number, number, number, number];
      const copy = bytes.slice(offset, offset + length);
      expect(offset % 64).toBe(0);
      this.#packets.push({ bytes: copy, flags, gsoSize, csumStart, csumOffset });
    }
  }

  async until<T>(found: () => T | undefined): Promise<T> {
    for (;;) {
      const result = found();
      if (result !== undefined) return result;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  packet(wanted: (packet: Packet) => boolean): Promise<Packet> {
    return this.until(() => this.#packets.find(wanted));
  }
}

const isUdp4 = (p: Packet): boolean => (p.bytes[0] as number) >> 4 === 4 && p.bytes[9] === 17;
const isUdp6 = (p: Packet): boolean => (p.bytes[0] as number) >> 4 === 6 && p.bytes[6] === 17;

function sum(data: Uint8Array, initial = 0): number {
  let total = initial;
  for (let i = 0; i < data.length; i += 2) {
    total += ((data[i] as number) << 8) | (data[i + 1] ?? 0);
  }
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

function put16(at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** IPv4 header at HEAD for `length` octets in all. */
function putIpv4(length: number, protocol: number, from: Uint8Array, to: Uint8Array): void {
  bytes.fill(0, HEAD, HEAD + 20);
  bytes.set([0x45, 0, length >>> 8, length & 0xff, 0, 0, 0, 0, 64, protocol, 0, 0], HEAD);
  bytes.set(from, HEAD + 12);
  bytes.set(to, HEAD + 16);
  put16(HEAD + 10, ~sum(bytes.subarray(HEAD, HEAD + 20)) & 0xffff);
}

/** ICMP port unreachable for `packet`, at HEAD. */
function putUnreachable(packet: Uint8Array): void {
  putIpv4(56, 1, packet.subarray(16, 20), packet.subarray(12, 16));
  bytes.fill(0, HEAD + 20, HEAD + 28);
  bytes.set([3, 3], HEAD + 20);
  bytes.set(packet.subarray(0, 28), HEAD + 28);
  put16(HEAD + 22, ~sum(bytes.subarray(HEAD + 20, HEAD + 56)) & 0xffff);
}

/** Sends a datagram from inside, prints the answer. Ends by itself when none comes. */
const ASK = `
  const [, host, port, text] = process.argv;
  const socket = require("node:dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
  const timer = setTimeout(() => { console.log("no answer"); socket.close(); }, 10_000);
  socket.on("message", (message, from) => {
    console.log(String(message), from.address, from.port);
    clearTimeout(timer); socket.close();
  });
  socket.on("error", (error) => {
    console.log(error.code);
    clearTimeout(timer); socket.close();
  });
  socket.connect(Number(port), host, () => socket.send(text));
`;

function ask(host: string, port: number, text: string): Promise<{ stdout: string }> {
  const args = ["netns", "exec", NETNS, process.execPath, "-e", ASK, host, String(port), text];
  return run("ip", args, { timeout: 20_000 });
}

beforeAll(() => {
  execFileSync("ip", ["netns", "add", NETNS]);
});

afterAll(() => {
  execFileSync("ip", ["netns", "delete", NETNS]);
  expect(existsSync(PATH)).toBe(false);
});

describe("a device that is created in another namespace", () => {
  let info: TunInfo;
  let tun: Watched;

  beforeAll(() => {
    const ours = readlinkSync("/proc/thread-self/ns/net");
    info = native.tunOpen("tun%d", { netns: PATH });
    native.tunConfigure(info.name, {
      netns: PATH,
      mtu: 1400,
      txQueueLength: 1000,
      ipv4: "198.18.0.1",
      ipv4Prefix: 15,
      ipv6: "fd00:18::1",
      ipv6Prefix: 64,
      up: true,
      defaultRoute: true,
    });
    tun = new Watched(info);
    expect(readlinkSync("/proc/thread-self/ns/net")).toBe(ours);
  });

  afterAll(() => {
    native.tunStop(tun.handle);
    native.tunStop(tun.handle);
  });

  test("has the kernel's name, all offloads of this kernel, and exists nowhere else", () => {
    expect(info).toMatchObject({
      name: "tun0",
      created: true,
      vnetHeader: true,
      multiQueue: false,
      mtu: 1500,
    });
    expect(info.offload & Offload.CSUM).toBe(Offload.CSUM);
    expect([ALL, 0x0f, 0x01]).toContain(info.offload);
    expect(existsSync(`/sys/class/net/${info.name}`)).toBe(false);
  });

  test("has MTU, queue length, addresses and default routes; configuring again changes nothing", () => {
    const again = { netns: PATH, mtu: 1400, txQueueLength: 500, up: true, defaultRoute: true };
    const v4 = { ipv4: "198.18.0.1", ipv4Prefix: 15 };
    native.tunConfigure("tun0", { ...again, ...v4, ipv6: "fd00:18::1", ipv6Prefix: 64 });
    expect(native.tunMtu("tun0", PATH)).toBe(1400);
    expect(ip("link", "show", "tun0")).toMatch(/UP.*mtu 1400.*qlen 1000/);
    const addresses = ip("address", "show", "tun0");
    expect(addresses.match(/inet 198\.18\.0\.1\/15/g)).toHaveLength(1);
    expect(addresses.match(/inet6 fd00:18::1\/64/g)).toHaveLength(1);
    expect(addresses).not.toContain("tentative");
    expect(ip("route")).toMatch(/^default dev tun0/m);
    expect(ip("-6", "route")).toMatch(/^default dev tun0/m);
  });

  test("a longer queue stays", () => {
    ip("link", "set", "tun0", "txqueuelen", "4321");
    native.tunConfigure("tun0", { netns: PATH, txQueueLength: 1000 });
    expect(ip("link", "show", "tun0")).toContain("qlen 4321");
  });

  test("an IPv4 datagram arrives with its checksum still to be completed, and is answered", async () => {
    const answer = ask("203.0.113.9", 7777, "over IPv4");
    const packet = await tun.packet((p) => isUdp4(p) && p.bytes[22] === 7777 >> 8);
    expect(Buffer.from(packet.bytes.subarray(28)).toString()).toBe("over IPv4");
    expect(packet).toMatchObject({ flags: 1, gsoSize: 0, csumStart: 20, csumOffset: 6 });

    const text = Buffer.from("answer 4");
    putIpv4(28 + text.length, 17, packet.bytes.subarray(16, 20), packet.bytes.subarray(12, 16));
    bytes.set(packet.bytes.subarray(22, 24), HEAD + 20);
    bytes.set(packet.bytes.subarray(20, 22), HEAD + 22);
    put16(HEAD + 24, 8 + text.length);
    put16(HEAD + 26, 0);
    bytes.set(text, DATA);
    // The payload in two slices, and no checksum (RFC 768).
    const rows = Int32Array.of(HEAD, 28, 0, 0, 0, -1, 2, DATA, 3, DATA + 3, text.length - 3);
    expect(native.tunWrite(tun.handle, rows, 1)).toBe(1);
    expect((await answer).stdout).toBe("answer 4 203.0.113.9 7777\n");
  });

  test("an IPv6 datagram is answered with a checksum that the kernel completes", async () => {
    const answer = ask("2001:db8::9", 7778, "over IPv6");
    const packet = await tun.packet((p) => isUdp6(p) && p.bytes[43] === (7778 & 0xff));
    expect(packet).toMatchObject({ flags: 1, csumStart: 40, csumOffset: 6 });

    const text = Buffer.from("answer 6");
    const length = 8 + text.length;
    bytes.fill(0, HEAD, HEAD + 48);
    bytes.set([0x60, 0, 0, 0, length >>> 8, length & 0xff, 17, 64], HEAD);
    bytes.set(packet.bytes.subarray(24, 40), HEAD + 8);
    bytes.set(packet.bytes.subarray(8, 24), HEAD + 24);
    bytes.set(packet.bytes.subarray(42, 44), HEAD + 40);
    bytes.set(packet.bytes.subarray(40, 42), HEAD + 42);
    put16(HEAD + 44, length);
    // The folded sum of the pseudo-header, not complemented (RFC 8200 section 8.1).
    put16(HEAD + 46, sum(bytes.subarray(HEAD + 8, HEAD + 40), 17 + length));
    bytes.set(text, DATA);
    const rows = Int32Array.of(HEAD, 48, 0, 0, 40, 6, 1, DATA, text.length);
    expect(native.tunWrite(tun.handle, rows, 1)).toBe(1);
    expect((await answer).stdout).toBe("answer 6 2001:db8::9 7778\n");
  });

  test("one 64 KB TCP super-segment over many slices is taken, and answered with RST", async () => {
    const payload = 44 * 1360;
    putIpv4(40 + payload, 6, Uint8Array.of(203, 0, 113, 7), Uint8Array.of(198, 18, 0, 1));
    bytes.fill(0, HEAD + 20, HEAD + 40);
    put16(HEAD + 20, 4242);
    put16(HEAD + 22, 9999);
    put16(HEAD + 28, 0x1234); // acknowledgement number: the sequence number of the RST (RFC 9293 section 3.5.2)
    bytes.set([0x50, 0x10, 0x40, 0], HEAD + 32);
    put16(HEAD + 36, sum(bytes.subarray(HEAD + 12, HEAD + 20), 6 + 20 + payload));
    bytes.fill(0xaa, DATA, DATA + payload);
    const rows = new Int32Array(7 + 2 * 40);
    rows.set([HEAD, 40, 1, 1360, 20, 16, 40]);
    for (let i = 0; i < 40; i++) {
      const size = i < 39 ? 1360 : payload - 39 * 1360;
      rows.set([DATA + i * 1360, size], 7 + 2 * i);
    }
    expect(native.tunWrite(tun.handle, rows, 1)).toBe(1);
    const reset = await tun.packet((p) => p.bytes[9] === 6 && ((p.bytes[33] as number) & 4) === 4);
    expect([...reset.bytes.subarray(24, 28)]).toEqual([0x12, 0x34, 0, 0]);
  });

  test("a packet that lies is dropped; the next of the batch is taken", () => {
    putIpv4(20, 253, Uint8Array.of(203, 0, 113, 7), Uint8Array.of(198, 18, 0, 1));
    const good = [HEAD, 20, 0, 0, 0, -1, 0];
    const end = 8 << 20;
    const bad = [
      [-1, 20, 0, 0, 0, -1, 0],
      [HEAD, -20, 0, 0, 0, -1, 0],
      [end - 10, 20, 0, 0, 0, -1, 0],
      [HEAD, 2 ** 31 - 1, 0, 0, 0, -1, 0],
      [HEAD, 20, 0, 0, 0, -1, 1, end, 1],
      [HEAD, 20, 0, 0, 0, -1, 1, -1, 1],
      [HEAD, 20, 0, 0, 0, -1, 41, ...new Array<number>(82).fill(0)],
      [HEAD, 20, 99, 100, 20, 16, 0],
      [HEAD, 20, 1, 0, 20, 16, 0],
    ];
    for (const row of bad) {
      expect(native.tunWrite(tun.handle, Int32Array.from([...row, ...good]), 2)).toBe(1);
    }
    // Counts that the array does not have.
    expect(native.tunWrite(tun.handle, Int32Array.from(good), 100)).toBe(1);
    expect(native.tunWrite(tun.handle, Int32Array.of(HEAD, 20, 0, 0, 0, -1, 1), 1)).toBe(0);
    expect(native.tunWrite(tun.handle, Int32Array.of(HEAD, 20, 0, 0, 0, -1, -1), 1)).toBe(0);
    expect(native.tunWrite(tun.handle, new Int32Array(0), 1)).toBe(0);
    expect(native.tunWrite({} as Handle, Int32Array.from(good), 1)).toBe(0);
  });

  test("a device that is down takes nothing", () => {
    putIpv4(20, 253, Uint8Array.of(203, 0, 113, 7), Uint8Array.of(198, 18, 0, 1));
    ip("link", "set", "tun0", "down");
    const rows = Int32Array.of(HEAD, 20, 0, 0, 0, -1, 0);
    expect(native.tunWrite(tun.handle, rows, 1)).toBe(0);
    ip("link", "set", "tun0", "up");
    expect(native.tunWrite(tun.handle, rows, 1)).toBe(1);
  });

  test("another opener is refused with EBUSY and the step", () => {
    expect(() => native.tunOpen("tun0", { netns: PATH })).toThrow(
      expect.objectContaining({
        code: "EBUSY",
        errno: 16,
        syscall: "ioctl TUNSETIFF",
        message: "EBUSY: Device or resource busy, ioctl TUNSETIFF",
      }),
    );
  });

  test("its deletion reaches the callback as EBADFD, once", async () => {
    const doomed = native.tunOpen("doomed0", { netns: PATH });
    const watched = new Watched(doomed);
    // Belongs to the handle by now.
    native.close(doomed.fd);
    ip("link", "delete", "doomed0");
    expect(await watched.until(() => watched.failure || undefined)).toBe(-EBADFD);
    expect(native.tunRead(watched.handle)).toBe(-EBADFD);
    native.tunStop(watched.handle);
    expect(native.tunRead(watched.handle)).toBe(-9);
  });
});

describe("a device that was there before", () => {
  test("keeps addresses and MTU, and is still there when its owner has gone", () => {
    ip("tuntap", "add", "dev", "kept0", "mode", "tun");
    ip("address", "add", "192.0.2.1/30", "dev", "kept0");
    ip("link", "set", "kept0", "mtu", "1280", "up");
    const info = native.tunOpen("kept0", { netns: PATH });
    expect(info).toMatchObject({ created: false, name: "kept0", mtu: 1280 });
    native.tunConfigure("kept0", { netns: PATH, up: true });
    native.close(info.fd);
    expect(ip("address", "show", "kept0")).toMatch(/mtu 1280[\s\S]*192\.0\.2\.1\/30/);
    ip("link", "delete", "kept0");
  });

  test("does not keep the offloads of its last owner", async () => {
    ip("tuntap", "add", "dev", "kept1", "mode", "tun");
    const first = native.tunOpen("kept1", { netns: PATH });
    expect(first.offload & Offload.CSUM).toBe(Offload.CSUM);
    native.close(first.fd);
    for (const options of [{ offload: 0 }, { vnetHeader: false }]) {
      const info = native.tunOpen("kept1", { netns: PATH, ...options });
      expect(info.offload).toBe(0);
      native.tunConfigure("kept1", { netns: PATH, ipv4: "192.0.2.1", ipv4Prefix: 24, up: true });
      const tun = new Watched(info);
      const answer = ask("192.0.2.2", 7777, "whole");
      const packet = await tun.packet(isUdp4);
      expect(packet).toMatchObject({ flags: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 });
      expect(sum(packet.bytes.subarray(12), 17 + packet.bytes.length - 20)).toBe(0xffff);
      // An unreachable port ends the asking program (RFC 792, quoting header and eight octets).
      putUnreachable(packet.bytes);
      expect(native.tunWrite(tun.handle, Int32Array.of(HEAD, 56, 0, 0, 0, -1, 0), 1)).toBe(1);
      expect((await answer).stdout).toBe("ECONNREFUSED\n");
      native.tunStop(tun.handle);
    }
    ip("link", "delete", "kept1");
  });

  test("an upper bound is kept to", () => {
    for (const offload of [Offload.CSUM, 0x0f, Offload.CSUM | Offload.TSO4]) {
      const info = native.tunOpen("bound%d", { netns: PATH, offload });
      expect(info.offload).toBe(offload);
      native.close(info.fd);
    }
  });

  test("of the other queue kind is opened with its own", () => {
    ip("tuntap", "add", "dev", "many0", "mode", "tun", "multi_queue");
    const many = native.tunOpen("many0", { netns: PATH });
    expect(many).toMatchObject({ created: false, multiQueue: true });
    native.close(many.fd);
    ip("tuntap", "add", "dev", "one0", "mode", "tun");
    const one = native.tunOpen("one0", { netns: PATH, multiQueue: true });
    expect(one).toMatchObject({ created: false, multiQueue: false });
    native.close(one.fd);
    ip("link", "delete", "many0");
    ip("link", "delete", "one0");
  });

  test("and has a queue open already keeps the header of that queue", () => {
    for (const vnetHeader of [false, true]) {
      const options = { netns: PATH, multiQueue: true };
      const first = native.tunOpen("shared0", { ...options, vnetHeader });
      const second = native.tunOpen("shared0", { ...options, vnetHeader: !vnetHeader });
      expect(second).toMatchObject({ created: false, multiQueue: true, vnetHeader });
      native.close(second.fd);
      native.close(first.fd);
    }
  });
});

test("a device that is closed before it was served is given back, once", () => {
  const memory = { rxStart: 0, rxEnd: RX_END } as MemoryLayout;
  const info = native.tunOpen("never0", { netns: PATH });
  const device = new LinuxTun(native, memory, info);
  device.close();
  expect(ip("link", "show")).not.toContain("never0");
  // Very likely the same descriptor: a second close must leave it alone.
  const other = native.tunOpen("never1", { netns: PATH });
  device.close();
  expect(ip("link", "show")).toContain("never1");
  native.close(other.fd);
});

describe("refusals name the step", () => {
  test.each([
    [
      "a namespace that is not there",
      "x0",
      { netns: "/run/netns/none" },
      "ENOENT",
      "open network namespace",
    ],
    ["a file that is no namespace", "x0", { netns: "/etc/passwd" }, "EINVAL", "setns CLONE_NEWNET"],
    ["a device that is no TUN", "lo", { netns: PATH }, "EINVAL", "ioctl TUNSETIFF"],
    ["a name that is too long", "a-name-too-long-for-linux", {}, "EINVAL", "device name"],
    ["a device node that is not there", "x0", { device: "/dev/none" }, "ENOENT", "open /dev/none"],
  ])("%s", (_, name, options, code, syscall) => {
    expect(() => native.tunOpen(name, options)).toThrow(expect.objectContaining({ code, syscall }));
  });

  test("of configuring", () => {
    expect(() => native.tunConfigure("none0", { netns: PATH, mtu: 1500 })).toThrow(
      expect.objectContaining({ code: "ENODEV", syscall: "ioctl SIOCGIFMTU" }),
    );
    expect(() => native.tunMtu("none0", PATH)).toThrow(expect.objectContaining({ code: "ENODEV" }));
    expect(() => native.tunConfigure("lo", { netns: PATH, ipv4: "nonsense" })).toThrow(
      expect.objectContaining({ code: "EINVAL", syscall: "ipv4" }),
    );
    expect(() => native.tunConfigure("lo", { netns: PATH, ipv6: "::1", ipv6Prefix: 129 })).toThrow(
      expect.objectContaining({ code: "EINVAL", syscall: "ipv6" }),
    );
  });
});

test("a terminated worker takes its device with it", async () => {
  const worker = new Worker(
    `const native = require(${JSON.stringify(library)});
     native.reserve(1 << 20);
     const { fd } = native.tunOpen("worker0", { netns: ${JSON.stringify(PATH)} });
     native.tunStart(fd, true, 0, 1 << 20, new Int32Array(384), () => {});
     native.tunOpen("worker1", { netns: ${JSON.stringify(PATH)} });
     require("node:worker_threads").parentPort.postMessage("ready");`,
    { eval: true },
  );
  await new Promise((resolve) => worker.once("message", resolve));
  expect(ip("link", "show")).toMatch(/worker0[\s\S]*worker1/);
  await worker.terminate();
  expect(ip("link", "show")).not.toMatch(/worker[01]/);
});

test("a queue that one environment opened is another's: it ends with that one, watched or not", async () => {
  const queues = [0, 1, 2].map(() =>
    native.tunOpen("shared0", { netns: PATH, multiQueue: true, vnetHeader: true }),
  );
  const queueCount = (): string | undefined =>
    /numqueues (\d+)/.exec(ip("-d", "link", "show", "dev", "shared0"))?.[1];
  expect(queueCount()).toBe("3");
  expect(native.tunQueues("shared0", PATH)).toBe(3);
  expect(native.tunQueues("lo", PATH)).toBe(1);
  expect(() => native.tunQueues("none0", PATH)).toThrow(
    expect.objectContaining({ code: "ENODEV" }),
  );
  const [kept, watched, adopted] = queues.map(({ fd }) => fd) as [number, number, number];
  native.tunDisown(watched);
  native.tunDisown(adopted);
  // Not ours any more: nothing happens.
  native.close(watched);
  const worker = new Worker(
    `const native = require(${JSON.stringify(library)});
     native.reserve(1 << 20);
     native.tunAdopt(${watched});
     native.tunAdopt(${adopted});
     native.tunStart(${watched}, true, 0, 1 << 20, new Int32Array(384), () => {});
     require("node:worker_threads").parentPort.postMessage("ready");`,
    { eval: true },
  );
  await new Promise((resolve) => worker.once("message", resolve));
  expect(queueCount()).toBe("3");
  await worker.terminate();
  expect(queueCount()).toBe("1");
  native.close(kept);
  expect(() => native.tunAdopt(999_999)).toThrow(expect.objectContaining({ code: "EBADF" }));
  expect(() => native.tunAdopt(-1)).toThrow(expect.objectContaining({ code: "EBADF" }));
});
