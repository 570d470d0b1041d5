import { expect, test } from "vitest";
import { plainMemory } from "../../src/memory.ts";
import type {
  CloseReason,
  PacketSink,
  StackListener,
  TcpConnection,
  TcpHandler,
} from "../../src/stack/ports.ts";
import { PacketFlag } from "../../src/stack/ports.ts";
import { Stack } from "../../src/stack/stack.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { type Endpoint, parseAddress } from "../../src/stack/wire/address.ts";
import { emitIp, Protocol } from "../../src/stack/wire/ip.ts";
import { read16, read32 } from "../../src/stack/wire/octets.ts";
import { ACK, emitMss, emitTcp, emitWindowScale, FIN, SYN } from "../../src/stack/wire/tcp.ts";
import { FULL_OFFLOAD } from "../../src/testing/memory-device.ts";

const OCTETS = 200_000_000;
/** A stream that repeats after a prime number of octets: a shift by any page or segment shows. */
const PERIOD = 65521;
const stream: Uint8Array = new Uint8Array(3 * PERIOD);
for (let i = 0, x = 1; i < PERIOD; i++) {
  x = (Math.imul(x, 1103515245) + 12345) | 0;
  stream[i] = x >>> 16;
}
stream.copyWithin(PERIOD, 0, PERIOD);
stream.copyWithin(2 * PERIOD, 0, PERIOD);

const MSS = 1460;
const SUPER = 44 * MSS;

/** A client that loses nothing: it sends super-segments, and acknowledges once per flush. */
class Peer implements PacketSink, TcpHandler, StackListener {
  readonly memory = plainMemory();
  readonly time = new TimerWheel();
  readonly stack: Stack;
  readonly client: Endpoint;
  readonly target: Endpoint;
  connection: TcpConnection | null = null;
  closed: CloseReason | null = null;
  /** Octets the peer received, and the handler. */
  downloaded = 0;
  uploaded = 0;
  finReceived = false;
  packets = 0;
  readonly #rows = new Int32Array(64);
  #committed = 0;
  #toCommit: number;
  #header = 0;
  #headerLength = 0;
  #slices = 0;
  readonly #slice = new Int32Array(64);
  #sndNxt = 1000;
  #rcvNxt = 0;
  #edge = 0;
  #sent = 0;
  #rx: number;

  constructor(address: string, target: string, download: number) {
    this.client = parseAddress(address) as Endpoint;
    this.client.port = 40000;
    this.target = parseAddress(target) as Endpoint;
    this.target.port = 443;
    this.#toCommit = download;
    this.#rx = this.memory.rxStart;
    const options = {
      mtu: 1500,
      offload: FULL_OFFLOAD,
      secret: Uint32Array.of(1, 2, 3, 4),
      ownAddresses: [],
      icmp: "own",
      udpTimeout: 300_000,
    } as const;
    this.stack = new Stack(options, this.memory, this.time, this);
  }

  // ---- the relay ------------------------------------------------------------------------------
  onTcpOpen(connection: TcpConnection): TcpHandler {
    this.connection = connection;
    connection.accept();
    return this;
  }
  onUdpOpen(): null {
    return null;
  }
  onDirty(): void {}
  onReadable(): void {
    const connection = this.connection as TcpConnection;
    for (let count = connection.readable(this.#rows); count > 0; ) {
      let octets = 0;
      for (let row = 0; row < count; row++) {
        const start = this.#rows[2 * row] as number;
        const length = this.#rows[2 * row + 1] as number;
        this.#compare(start, length, this.uploaded + octets);
        octets += length;
      }
      connection.consume(octets);
      this.uploaded += octets;
      count = connection.readable(this.#rows);
    }
  }
  onFin(): void {}
  onWritable(): void {
    this.fill();
  }
  onClosed(reason: CloseReason): void {
    this.closed = reason;
  }

  /** What recvmsg does: fills whatever space there is. */
  fill(): void {
    const connection = this.connection as TcpConnection;
    while (this.#committed < this.#toCommit) {
      const count = connection.space(this.#rows);
      if (count === 0) return;
      let octets = 0;
      for (let row = 0; row < count; row++) {
        const start = this.#rows[2 * row] as number;
        const most = this.#toCommit - this.#committed - octets;
        const length = Math.min(this.#rows[2 * row + 1] as number, most);
        const at = (this.#committed + octets) % PERIOD;
        this.memory.bytes.set(stream.subarray(at, at + length), start);
        octets += length;
      }
      connection.commit(octets);
      this.#committed += octets;
    }
    connection.shutdown();
  }

  // ---- the device -----------------------------------------------------------------------------
  reserve(octets: number): number {
    this.#header = this.memory.headersStart;
    this.#headerLength = octets;
    this.#slices = 0;
    return this.#header;
  }
  attach(start: number, end: number): void {
    this.#slice[2 * this.#slices] = start;
    this.#slice[2 * this.#slices + 1] = end - start;
    this.#slices++;
  }
  commit(): void {
    const { bytes } = this.memory;
    const tcp = this.#header + (this.client.isV4 ? 20 : 40);
    const seq = read32(bytes, tcp + 4);
    const flags = bytes[tcp + 13] as number;
    this.packets++;
    if (flags & SYN) this.#rcvNxt = (seq + 1) | 0;
    if (flags & ACK) {
      this.#edge =
        (read32(bytes, tcp + 8) + (read16(bytes, tcp + 14) << (flags & SYN ? 0 : 7))) | 0;
    }
    if (this.#slices > 0) expect(seq).toBe(this.#rcvNxt);
    for (let slice = 0; slice < this.#slices; slice++) {
      const length = this.#slice[2 * slice + 1] as number;
      this.#compare(this.#slice[2 * slice] as number, length, this.downloaded);
      this.downloaded += length;
      this.#rcvNxt = (this.#rcvNxt + length) | 0;
    }
    if (flags & FIN) {
      this.finReceived = true;
      this.#rcvNxt = (this.#rcvNxt + 1) | 0;
    }
    expect(this.#headerLength).toBeLessThan(256);
  }

  open(): void {
    this.segment(SYN, 0, 8);
    this.turn();
    this.segment(ACK, 0, 0);
    this.turn();
  }

  turn(): void {
    this.stack.endBatch();
    this.#rx = this.memory.rxStart;
    while (!this.stack.flush(this));
  }

  /** Queues a segment; with 8 octets of options it is the SYN. */
  segment(flags: number, length: number, options: number): void {
    const { bytes } = this.memory;
    const at = this.#rx;
    const ip = emitIp(
      bytes,
      at,
      this.client,
      this.target,
      Protocol.TCP,
      0,
      0,
      20 + options + length,
    );
    const tcp = at + ip;
    const ports = [this.client.port, this.target.port] as const;
    const seq = this.#sndNxt;
    emitTcp(bytes, tcp, ...ports, seq, this.#rcvNxt, 20 + options, flags, 32768, 0);
    if (options > 0) emitWindowScale(bytes, emitMss(bytes, tcp + 20, MSS), 7);
    const from = this.#sent % PERIOD;
    bytes.set(stream.subarray(from, from + length), tcp + 20 + options);
    const end = tcp + 20 + options + length;
    this.#rx = (end + 63) & ~63;
    const gso = length > MSS ? MSS : 0;
    this.stack.input(at, end, PacketFlag.NEEDS_CSUM | (gso > 0 ? 1 << 8 : 0), gso, ip, 16);
    this.#sent += length;
    this.#sndNxt = (seq + length + (flags & (SYN | FIN) ? 1 : 0)) | 0;
  }

  /** As many super-segments as the window and a batch allow. */
  upload(total: number): void {
    for (let packet = 0; packet < 16; packet++) {
      const room = (this.#edge - this.#sndNxt) | 0;
      const length = Math.min(total - this.#sent, room, SUPER);
      if (length <= 0) return;
      this.segment(ACK, length, 0);
    }
  }

  #compare(start: number, length: number, at: number): void {
    const from = at % PERIOD;
    const expected = stream.subarray(from, from + length);
    const got = this.memory.bytes.subarray(start, start + length);
    if (Buffer.compare(got, expected) !== 0) throw new Error(`octets at ${at} are wrong`);
  }
}

test.each([
  ["IPv4", "10.0.0.2", "192.0.2.1"],
  ["IPv6", "fd00::2", "2001:db8::1"],
])("200 MB arrive exactly over %s, up and down at once", (_name, client, target) => {
  const peer = new Peer(client, target, OCTETS);
  peer.open();
  peer.fill();
  peer.turn();
  for (let turns = 0; turns < 100_000; turns++) {
    const before = peer.downloaded + peer.uploaded;
    peer.upload(OCTETS);
    peer.segment(ACK, 0, 0);
    peer.turn();
    if (peer.downloaded === OCTETS && peer.uploaded === OCTETS && peer.finReceived) break;
    expect(peer.downloaded + peer.uploaded, "no progress").toBeGreaterThan(before);
  }
  expect(peer.downloaded).toBe(OCTETS);
  expect(peer.uploaded).toBe(OCTETS);
  peer.segment(ACK | FIN, 0, 0);
  peer.turn();
  expect(peer.closed).toBe("closed");
  expect(peer.stack.pages.inUse).toBe(0);
  expect(peer.stack.stats.tcpRetransmissions).toBe(0);
  // Whole super-segments: pages make no runts.
  expect(peer.packets).toBeLessThan((2 * OCTETS) / SUPER + 2000);
});
