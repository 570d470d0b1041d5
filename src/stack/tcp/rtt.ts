/**
 * Round-trip time and retransmission time-out (RFC 6298), in integers: SRTT in eighths, RTTVAR in quarters of a
 * millisecond, so that no field becomes a heap number.
 */

/** RFC 6298 §2.4 asks for 1 s; links here are local first and Linux uses 200 ms. */
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

  /** Smoothed, ms; 0 before the first measurement. */
  get srtt(): number {
    return this.#srtt8 < 0 ? 0 : this.#srtt8 >> 3;
  }

  get isMeasured(): boolean {
    return this.#srtt8 >= 0;
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
    const rto = (this.#srtt8 >> 3) + Math.max(CLOCK_GRANULARITY, this.#rttvar4);
    this.rto = Math.min(Math.max(rto, MIN_RTO), MAX_RTO);
  }
}

/** One tick of the timer wheel: what a time-out may be late. */
const CLOCK_GRANULARITY = 10;
