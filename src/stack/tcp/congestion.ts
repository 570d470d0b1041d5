/**
 * Congestion windows: CUBIC (RFC 9438) and NewReno (RFC 5681, RFC 6582) behind one interface.
 *
 * A controller only says how many octets may be in flight; what is lost and what is sent is decided elsewhere.
 * It is told of acknowledgements while nothing is being repaired by fast recovery, and only when the window was
 * what held the sender back (RFC 7661 §4.3 in its simplest form).
 */

import type { CongestionName } from "../ports.ts";

export interface CongestionControl {
  /** Octets that may be in flight. */
  readonly cwnd: number;
  /** Below it slow start. */
  readonly ssthresh: number;
  /** `octets` of new data were acknowledged. Times in ms. */
  acked(octets: number, mss: number, srtt: number, now: number): void;
  /** Fast recovery begins with `flight` octets outstanding. */
  lost(flight: number, mss: number): void;
  /** The retransmission timer expired; `first`: for the first time since the last progress. */
  timedOut(flight: number, mss: number, first: boolean): void;
  /** The last of these reductions was not called for: as if it had not been (RFC 4015 §3.2, RFC 9438 §4.9). */
  undo(): void;
  /** Nothing was sent for longer than the RTO (RFC 5681 §4.1). */
  restarted(mss: number): void;
}

/** RFC 6928 §2. */
export function initialWindow(mss: number): number {
  return Math.min(10 * mss, Math.max(2 * mss, 14600));
}

export function createCongestionControl(name: CongestionName, mss: number): CongestionControl {
  return name === "newreno" ? new NewReno(mss) : new Cubic(mss);
}

export class NewReno implements CongestionControl {
  cwnd: number;
  ssthresh: number = UNLIMITED;
  #counted = 0;
  #cwndBefore = 0;
  #ssthreshBefore: number = UNLIMITED;

  constructor(mss: number) {
    this.cwnd = initialWindow(mss);
  }

  acked(octets: number, mss: number): void {
    const rest = slowStart(this, octets);
    this.#counted += rest;
    // RFC 5681 §3.1 (3), counting octets: one segment per window.
    while (this.#counted >= this.cwnd) {
      this.#counted -= this.cwnd;
      this.cwnd = Math.min(this.cwnd + mss, MAX_CWND);
    }
  }

  lost(flight: number, mss: number): void {
    this.#halve(flight, mss);
    this.cwnd = this.ssthresh;
  }

  timedOut(flight: number, mss: number, first: boolean): void {
    if (first) this.#halve(flight, mss);
    this.cwnd = mss;
  }

  undo(): void {
    this.cwnd = Math.max(this.cwnd, this.#cwndBefore);
    this.ssthresh = Math.max(this.ssthresh, this.#ssthreshBefore);
  }

  /** RFC 5681 §3.1 (4). */
  #halve(flight: number, mss: number): void {
    this.#cwndBefore = this.cwnd;
    this.#ssthreshBefore = this.ssthresh;
    this.ssthresh = Math.max(flight >> 1, 2 * mss);
    this.#counted = 0;
  }

  restarted(mss: number): void {
    this.cwnd = Math.min(this.cwnd, initialWindow(mss));
  }
}

/** Every field is an integer: a fraction would be a new object at every acknowledgement. */
export class Cubic implements CongestionControl {
  cwnd: number;
  ssthresh: number = UNLIMITED;
  /** Octets, as the windows below. 0: no congestion event yet. */
  #wMax = 0;
  /** The window just before the last congestion event. */
  #cwndPrior = 0;
  /** What NewReno would have reached since then, and 1024ths of an octet of it. */
  #wEst = 0;
  #wEstRest = 0;
  /** Milliseconds from the start of the epoch to the plateau. */
  #k = 0;
  /** ms; -1: congestion avoidance has not begun. */
  #epochStart = -1;
  /** When the window was last what held the sender back, ms. */
  #ackedAt = 0;
  // Before the last congestion event
  #cwndBefore = 0;
  #ssthreshBefore: number = UNLIMITED;
  #wMaxBefore = 0;

  constructor(mss: number) {
    this.cwnd = initialWindow(mss);
  }

  acked(octets: number, mss: number, srtt: number, now: number): void {
    const rest = slowStart(this, octets);
    if (rest === 0) return;
    const pause = now - this.#ackedAt;
    this.#ackedAt = now;
    if (this.#epochStart < 0) this.#begin(mss, now);
    // RFC 9438 §5.8: time in which the window held nothing back does not count.
    else if (pause > srtt + PAUSE) this.#epochStart += pause;
    // Seconds from the plateau, now and a round trip later.
    const behind = (now - this.#epochStart - this.#k) / 1000;
    const offset = behind + srtt / 1000;
    const cubic = this.#wMax + C * offset * offset * offset * mss;
    // RFC 9438 §4.3: the friendly region.
    const alpha = this.#wEst >= this.#cwndPrior ? 1 : ALPHA;
    const estimate = this.#wEstRest + Math.floor((1024 * alpha * rest * mss) / this.cwnd);
    this.#wEst += estimate >> 10;
    this.#wEstRest = estimate & 1023;
    if (this.#wMax + C * behind * behind * behind * mss < this.#wEst) {
      this.#set(Math.max(this.cwnd, this.#wEst));
      return;
    }
    // RFC 9438 §4.4, §4.5: towards the target, at most half a window per round trip.
    const target = Math.min(Math.max(cubic, this.cwnd), 1.5 * this.cwnd);
    this.#set(this.cwnd + ((target - this.cwnd) * rest) / this.cwnd);
  }

  lost(flight: number, mss: number): void {
    this.#congested(flight, mss);
    this.cwnd = this.ssthresh;
  }

  timedOut(flight: number, mss: number, first: boolean): void {
    if (first) this.#congested(flight, mss);
    // RFC 9438 §4.8: K is 0 and W_max the window at which congestion avoidance will begin.
    this.#wMax = 0;
    this.#epochStart = -1;
    this.cwnd = mss;
  }

  undo(): void {
    this.cwnd = Math.max(this.cwnd, this.#cwndBefore);
    this.ssthresh = Math.max(this.ssthresh, this.#ssthreshBefore);
    this.#wMax = this.#wMaxBefore;
    this.#epochStart = -1;
  }

  restarted(mss: number): void {
    this.cwnd = Math.min(this.cwnd, initialWindow(mss));
    this.#epochStart = -1;
  }

  /** RFC 9438 §4.2. */
  #begin(mss: number, now: number): void {
    this.#epochStart = now;
    this.#wEst = this.cwnd;
    this.#wEstRest = 0;
    if (this.#wMax > this.cwnd) {
      this.#k = Math.round(1000 * Math.cbrt((this.#wMax - this.cwnd) / mss / C));
    } else {
      this.#k = 0;
      this.#wMax = this.cwnd;
    }
  }

  #congested(flight: number, mss: number): void {
    this.#cwndBefore = this.cwnd;
    this.#ssthreshBefore = this.ssthresh;
    this.#wMaxBefore = this.#wMax;
    this.ssthresh = Math.max(Math.floor(flight * BETA), 2 * mss);
    this.#cwndPrior = this.cwnd;
    // RFC 9438 §4.7: fast convergence.
    this.#wMax = this.cwnd < this.#wMax ? Math.floor((this.cwnd * (1 + BETA)) / 2) : this.cwnd;
    this.#epochStart = -1;
  }

  #set(cwnd: number): void {
    this.cwnd = Math.min(Math.floor(cwnd), MAX_CWND);
  }
}

/**
 * Grows the window by what was acknowledged up to ssthresh; returns the octets beyond. All of them count,
 * not two segments (RFC 3465 §2.2): clients acknowledge 64 KiB at a time, and Linux counts so as well.
 */
function slowStart(control: { cwnd: number; ssthresh: number }, octets: number): number {
  const room = control.ssthresh - control.cwnd;
  if (room <= 0) return octets;
  const taken = Math.min(octets, room);
  control.cwnd = Math.min(control.cwnd + taken, MAX_CWND);
  return octets - taken;
}

const UNLIMITED = 0x3fffffff;
/** No window is larger than RFC 7323 allows. */
const MAX_CWND = 0x3fffffff;
/** RFC 9438 §5: C in segments per second cubed, and the multiplicative decrease. */
const C = 0.4;
const BETA = 0.7;
/** ms beyond a round trip without an ACK that counts: the sender had nothing to send. */
const PAUSE = 100;
const ALPHA: number = (3 * (1 - BETA)) / (1 + BETA);
