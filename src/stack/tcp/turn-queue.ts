/**
 * Connections that wait for their turn, first come first served, by index in the flow table.
 *
 * Indices and no pointers: V8's write barrier reads the header of the heap page that a stored object lies in, which with
 * many flows is one more wait for memory per packet. Whoever takes an entry out asks the connection whether it still
 * waits: the index may be another's by then.
 */
export class TurnQueue {
  #indices: Int32Array = new Int32Array(64);
  #head = 0;
  #tail = 0;

  /** The first index; -1: the queue is empty. */
  get first(): number {
    return this.#head === this.#tail ? -1 : this.#indices[this.#head];
  }

  push(index: number): void {
    if (this.#tail === this.#indices.length) this.#makeRoom();
    this.#indices[this.#tail++] = index;
  }

  /** Takes the first out. */
  shift(): void {
    this.#head++;
    if (this.#head < this.#tail) return;
    this.#head = 0;
    this.#tail = 0;
  }

  #makeRoom(): void {
    const waiting = this.#indices.subarray(this.#head, this.#tail);
    if (2 * waiting.length > this.#indices.length) {
      this.#indices = new Int32Array(2 * this.#indices.length);
    }
    this.#indices.set(waiting);
    this.#tail = waiting.length;
    this.#head = 0;
  }
}
