/**
 * Round-trip time and retransmission time-out (RFC 6298), in integers: SRTT in eighths, RTTVAR in quarters of a
 * millisecond, so that no field becomes a heap number.
 */

/**
 * What the RTO is at least above SRTT. RFC 6298 §2.4 asks for 1 s in all; links here are local first, and this is
 * Linux's floor (tcp_rto_min): an ACK that is delayed for 40 ms does not time out, however steady the path.
 */
export const MIN_RTO = 200;
/** RFC 6298 §2.5. */
export const MAX_RTO = 60_000;
/** RFC 6298 §2.1: before a measurement. */
export const INITIAL_RTO = 1000;

export class RttEstimator {
  /** Milliseconds, without back-off. */
  rto: number = INITIAL_RTO;
  /** SRTT × 8; -1: nothing measured yet. */
  #srtt8 = -1;
  /** RTTVAR × 4. */
  #rttvar4 = 0;
  /** The least of the running period and of the one before; -1: none. */
  #min = -1;
  #minBefore = -1;
  #minSince = 0;

  /** Smoothed, ms; 0 before the first measurement. */
  get srtt(): number {
    return this.#srtt8 < 0 ? 0 : this.#srtt8 >> 3;
  }

  get isMeasured(): boolean {
    return this.#srtt8 >= 0;
  }

  /** The least round trip of the last minutes, ms; 0 before the first (RFC 8985 §6.2 step 1). */
  get min(): number {
    if (this.#min < 0) return 0;
    return this.#minBefore < 0 ? this.#min : Math.min(this.#min, this.#minBefore);
  }

  /** Something sent once was answered after `rtt` ms. */
  observe(rtt: number, now: number): void {
    if (this.#min < 0 || now - this.#minSince >= MIN_PERIOD) {
      this.#minBefore = this.#min;
      this.#min = rtt;
      this.#minSince = now;
    } else if (rtt < this.#min) {
      this.#min = rtt;
    }
  }

  /** Takes a measurement in ms (RFC 6298 §2.2, §2.3). */
  sample(rtt: number): void {
    if (this.#srtt8 < 0) {
      this.#srtt8 = rtt << 3;
      this.#rttvar4 = rtt << 1;
    } else {
      const error = rtt - (this.#srtt8 >> 3);
      this.#rttvar4 += Math.abs(error) - (this.#rttvar4 >> 2);
      this.#srtt8 += error;
    }
    this.rto = Math.min((this.#srtt8 >> 3) + Math.max(this.#rttvar4, MIN_RTO), MAX_RTO);
  }
}

/** The least round trip is forgotten after one to two of these: routes change (Linux: five minutes). */
const MIN_PERIOD = 150_000;
