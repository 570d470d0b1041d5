/**
 * Addresses as four int32 words; IPv4 is v4-mapped (RFC 4291 §2.5.5.2), so one path serves both families.
 */

/** An address and port. Instances passed to handlers are reused: valid during the call only. */
export class Endpoint {
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;
  port = 0;

  set(w0: number, w1: number, w2: number, w3: number, port: number): this {
    this.w0 = w0 | 0;
    this.w1 = w1 | 0;
    this.w2 = w2 | 0;
    this.w3 = w3 | 0;
    this.port = port;
    return this;
  }

  copy(other: Endpoint): this {
    return this.set(other.w0, other.w1, other.w2, other.w3, other.port);
  }

  clone(): Endpoint {
    return new Endpoint().copy(this);
  }

  equals(other: Endpoint): boolean {
    return this.port === other.port && this.sameAddress(other);
  }

  sameAddress(other: Endpoint): boolean {
    return (
      this.w3 === other.w3 && this.w2 === other.w2 && this.w1 === other.w1 && this.w0 === other.w0
    );
  }

  /** True for a v4-mapped address. */
  get isV4(): boolean {
    return this.w2 === 0xffff && this.w1 === 0 && this.w0 === 0;
  }
}
