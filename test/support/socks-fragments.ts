/** Fragments of SOCKS5 datagrams (RFC 1928 §7) and one receiver of them, in virtual time. */

import { readUdpHeader } from "../../src/socks/message.ts";
import { FragmentQueue, FragmentStore } from "../../src/socks/udp-reassembly.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { Endpoint } from "../../src/stack/wire/address.ts";

/** 192.0.2.1:80, as ATYP, address and port. */
export const ADDRESS: readonly number[] = [1, 192, 0, 2, 1, 0, 80];
export const LAST = 0x80;

/** One datagram as the relay sends it. */
export function datagram(
  fragment: number,
  data: string | Uint8Array,
  address: readonly number[] = ADDRESS,
): Uint8Array {
  return Uint8Array.of(0, 0, fragment, ...address, ...Buffer.from(data as string));
}

export class FragmentReceiver {
  readonly time: TimerWheel;
  readonly store: FragmentStore;
  readonly queue: FragmentQueue;
  readonly #bytes = new Uint8Array(1 << 18);
  readonly #from = new Endpoint();

  constructor(limit?: number, shared?: FragmentReceiver) {
    this.time = shared?.time ?? new TimerWheel();
    this.store = shared?.store ?? new FragmentStore(this.time, limit);
    this.queue = new FragmentQueue(this.store);
  }

  /** What a datagram makes: the whole one with its header; null: nothing yet. */
  receive(packet: Uint8Array): Uint8Array | null {
    const bytes = this.#bytes;
    bytes.set(packet, 8);
    const end = 8 + packet.length;
    const data = readUdpHeader(bytes, 8, end, this.#from);
    if (packet[2] === 0) {
      this.queue.interrupt();
      return packet;
    }
    const length = this.queue.add(bytes, 8, data, end);
    if (length === 0) return null;
    this.queue.moveTo(bytes, 1 << 17);
    return bytes.slice(1 << 17, (1 << 17) + length);
  }

  /** What came of several, as text. */
  texts(...packets: readonly Uint8Array[]): (string | null)[] {
    return packets.map((packet) => {
      const whole = this.receive(packet);
      return whole && Buffer.from(whole.subarray(3 + ADDRESS.length)).toString("latin1");
    });
  }

  /** Counters that are not 0. */
  get counts(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.store.counters).filter(([, count]) => count > 0));
  }
}
