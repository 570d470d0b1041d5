/**
 * A doubly linked list through connections themselves. A connection is in one list at most.
 */

import type { Connection } from "./connection.ts";

export class ConnectionList {
  size = 0;
  /** The oldest. */
  head: Connection | null = null;
  tail: Connection | null = null;

  push(connection: Connection): void {
    connection.list = this;
    connection.listPrevious = this.tail;
    connection.listNext = null;
    if (this.tail === null) this.head = connection;
    else this.tail.listNext = connection;
    this.tail = connection;
    this.size++;
  }

  remove(connection: Connection): void {
    const { listNext, listPrevious } = connection;
    if (listPrevious === null) this.head = listNext;
    else listPrevious.listNext = listNext;
    if (listNext === null) this.tail = listPrevious;
    else listNext.listPrevious = listPrevious;
    connection.list = null;
    connection.listNext = null;
    connection.listPrevious = null;
    this.size--;
  }
}
