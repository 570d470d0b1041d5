import { beforeEach, describe, expect, test } from "vitest";
import { TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver, type RecordingHandler } from "../../support/raw-client.ts";

describe("with our window closed", () => {
  let driver: RecordingDriver;
  let client: RawClient;
  let handler: RecordingHandler;

  beforeEach(() => {
    driver = new RecordingDriver();
    client = new RawClient(driver);
    handler = client.open();
    handler.autoconsume = false;
    for (let n = 0; n < 10_000 && client.room > 0; n++) {
      client.send(Math.min(1460, client.room));
      if (client.room === 0) driver.advance(200);
      client.hearAll();
    }
    expect(client.room).toBe(0);
  });

  const NEXT = 1;

  test("an RST at RCV.NXT counts (RFC 9293 §3.4 MUST-66)", () => {
    driver.inject(client.segment(TcpFlag.RST, NEXT + client.sent));
    expect(handler.closed).toBe("reset");
  });

  test("an RST behind a FIN of the same batch counts (RFC 9293 §3.4 MUST-66)", () => {
    const fin = client.segment(TcpFlag.ACK | TcpFlag.FIN, NEXT + client.sent);
    driver.inject(fin, client.segment(TcpFlag.RST, NEXT + client.sent + 1));
    expect(handler.closed).toBe("reset");
  });

  test("an acknowledgement in a segment with octets counts, the octets do not (RFC 9293 §3.4, §3.10.7.4)", () => {
    handler.flow.unsent = 1000;
    handler.flow.fill();
    driver.turn();
    const full = client.sent;
    const packets = driver.takeTcp();
    client.hear(packets);
    expect(client.received).toBe(1000);
    client.send(10);
    client.sent = full;
    driver.advance(5000);
    // Nothing is sent again: the acknowledgement arrived.
    expect(driver.takeTcp().filter(({ payload }) => payload.length > 0)).toEqual([]);
    expect(handler.flow.connection.readableOctets).toBe(full);
  });

  test("a FIN takes no room and counts", () => {
    driver.inject(client.segment(TcpFlag.ACK | TcpFlag.FIN, NEXT + client.sent));
    client.hearAll();
    expect(handler.fin).toBe(true);
    expect(client.acknowledged).toBe(client.sent + 1);
    expect(handler.flow.connection.readableOctets).toBe(client.sent);
  });
});
