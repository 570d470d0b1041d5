/** Handshakes in one write, against servers that take them and servers that do not. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  FIRST_STEPWISE,
  MAX_SILENT,
  MAX_TRIALS,
  MIN_PATIENCE,
  type PipelineMode,
} from "../../src/socks/pipelining.ts";
import type { SocksUpstream } from "../../src/socks/upstream.ts";
import {
  CONNECT,
  closeServers,
  GRANT,
  logged,
  open,
  type Peer,
  pass,
  Recorder,
  ScriptedServer,
  SHAPES,
  type Shape,
  settle,
  timers,
  until,
} from "./client-harness.ts";

const LOGIN = "01026d65027077";
/** A whole handshake, without and with credentials. */
const WHOLE = `050100${CONNECT}`;
const WHOLE_LOGIN = `050102${LOGIN}${CONNECT}`;

beforeEach(() => {
  logged.length = 0;
});
afterEach(closeServers);

function upstreamOf(shape: Shape, server: ScriptedServer, pipeline: PipelineMode, user = "") {
  return open(shape, `socks5://${user}127.0.0.1:${server.port}`, { pipeline });
}

describe.each(SHAPES)("handshakes in one write, %s shape", (shape) => {
  /** An upstream that has seen so many handshakes pass that the next is a trial. */
  async function learned(): Promise<[SocksUpstream, ScriptedServer]> {
    const server = await ScriptedServer.listen();
    const upstream = upstreamOf(shape, server, "auto");
    await learn(upstream, server);
    return [upstream, server];
  }

  async function learn(upstream: SocksUpstream, server: ScriptedServer): Promise<void> {
    for (let i = 0; i < FIRST_STEPWISE; i++) await stepwise(upstream, server);
  }

  /** One flow that goes step by step and is granted. */
  async function stepwise(upstream: SocksUpstream, server: ScriptedServer): Promise<Recorder> {
    const client = new Recorder().connect(upstream);
    const peer = await server.accept();
    await peer.expects("050100");
    await settle(3);
    expect(peer.received.length).toBe(0);
    peer.send("0500");
    await peer.expects(CONNECT);
    peer.send(GRANT);
    await client.has("open");
    return client;
  }

  /** One flow that speaks ahead; its server has not answered yet. */
  async function ahead(upstream: SocksUpstream, server: ScriptedServer): Promise<[Recorder, Peer]> {
    const client = new Recorder().connect(upstream);
    const peer = await server.accept();
    await peer.expects(WHOLE);
    return [client, peer];
  }

  async function taken(): Promise<[SocksUpstream, ScriptedServer]> {
    const [upstream, server] = await learned();
    const [client, peer] = await ahead(upstream, server);
    peer.send(`0500${GRANT}`);
    await client.has("open");
    expect(upstream.pipelining.status).toBe("taken");
    return [upstream, server];
  }

  test("auto: after a few step by step one tries, and when it is granted all others follow", async () => {
    const [upstream, server] = await learned();
    expect(upstream.pipelining.status).toBe("unknown");
    const [client, peer] = await ahead(upstream, server);
    // While it is tried nobody else does.
    await stepwise(upstream, server);
    await peer.trickle(`0500${GRANT}`);
    await client.has("open");
    expect(client.send("ping")).toBe(4);
    await peer.expects("70696e67");
    const [next, answering] = await ahead(upstream, server);
    answering.send(`0500${GRANT}6869`);
    await until("payload behind the reply", () => next.text === "hi");
    expect(upstream.pipelining).toMatchObject({ status: "taken", trials: 1, redone: 0 });
    expect(logged.filter((line) => /one write/.test(line))).toEqual([
      `tun2socks: proxy socks5://127.0.0.1:${server.port}: takes a whole handshake in one write, which saves a round trip\n`,
    ]);
  });

  test("a trial that hangs is done again step by step: the flow is late, not lost", async () => {
    const [upstream, server] = await learned();
    const [client, hanging] = await ahead(upstream, server);
    hanging.send("0500");
    await settle();
    pass(MIN_PATIENCE - 20);
    await settle();
    expect([server.count, client.events]).toEqual([FIRST_STEPWISE + 1, []]);
    pass(40);
    const again = await server.accept();
    await again.grant("6869");
    await until("payload", () => client.text === "hi");
    expect(client.events[0]).toBe("open");
    await hanging.gone();
    expect(upstream.pipelining).toMatchObject({ status: "not taken", trials: 1, redone: 1 });
    await stepwise(upstream, server);
    expect(logged.filter((line) => /one write/.test(line))).toEqual([
      `tun2socks: proxy socks5://127.0.0.1:${server.port}: handshakes go step by step, it does not take one in one write\n`,
    ]);
  });

  test.each<[string, (peer: Peer) => void]>([
    ["ends", (peer) => peer.socket.end()],
    ["is reset", (peer) => peer.socket.resetAndDestroy()],
    ["ends behind the method", (peer) => void peer.socket.end(Buffer.from("0500", "hex"))],
    ["finds no method", (peer) => peer.send("05ff")],
    ["is answered nonsense", (peer) => peer.send("4854")],
    ["is refused", (peer) => peer.send("050005010001000000000000")],
  ])(
    "a trial that %s is done again, and if that is granted it is not taken",
    async (_how, break_) => {
      const [upstream, server] = await learned();
      const [client, peer] = await ahead(upstream, server);
      break_(peer);
      await (await server.accept()).grant();
      await client.has("open");
      expect(client.events).toEqual(["open"]);
      expect(upstream.pipelining.status).toBe("not taken");
      await stepwise(upstream, server);
    },
  );

  test("a trial whose destination refuses both ways shows that the form makes no difference", async () => {
    const [upstream, server] = await learned();
    const [client, peer] = await ahead(upstream, server);
    peer.send("05000505000100000000");
    const again = await server.accept();
    await again.expects("050100");
    again.send("0500");
    await again.expects(CONNECT);
    again.send("0505000100000000");
    expect(await client.refused()).toMatch(/^reply 5/);
    expect(client.events).toEqual(["refused"]);
    expect(upstream.pipelining.status).toBe("taken");
  });

  test("a destination that takes its time both ways tells nothing; so many trials are made", async () => {
    const [upstream, server] = await learned();
    for (let i = 1; i <= MAX_TRIALS; i++) {
      const [client, peer] = await ahead(upstream, server);
      peer.send("0500");
      await settle();
      pass(MIN_PATIENCE + 20);
      const again = await server.accept();
      await again.expects("050100");
      again.send("0500");
      await again.expects(CONNECT);
      await settle();
      pass(MIN_PATIENCE + 20);
      again.send(GRANT);
      await client.has("open");
      expect(upstream.pipelining.status).toBe(i < MAX_TRIALS ? "unknown" : "not taken");
    }
    await stepwise(upstream, server);
    expect(upstream.pipelining.trials).toBe(MAX_TRIALS);
  });

  test("a trial waits twice as long as the slowest reply so far", async () => {
    const server = await ScriptedServer.listen();
    const upstream = upstreamOf(shape, server, "auto");
    for (let i = 0; i < FIRST_STEPWISE; i++) {
      const client = new Recorder().connect(upstream);
      const peer = await server.accept();
      await peer.expects("050100");
      peer.send("0500");
      await peer.expects(CONNECT);
      await settle();
      pass(i === 1 ? 2000 : 10);
      peer.send(GRANT);
      await client.has("open");
    }
    const [client, peer] = await ahead(upstream, server);
    await settle();
    pass(3900);
    peer.send(`0500${GRANT}`);
    await client.has("open");
    expect(upstream.pipelining.status).toBe("taken");
  });

  test("a client that leaves during a trial lets the next one try", async () => {
    const [upstream, server] = await learned();
    const [client] = await ahead(upstream, server);
    client.stream?.close();
    const [next, peer] = await ahead(upstream, server);
    peer.send(`0500${GRANT}`);
    await next.has("open");
    expect(upstream.pipelining).toMatchObject({ status: "taken", trials: 2 });
  });

  test("a trial and what follows it have the time of one dial together", async () => {
    const [upstream, server] = await learned();
    const started = timers.now();
    const [client] = await ahead(upstream, server);
    await settle();
    pass(MIN_PATIENCE + 20);
    const again = await server.accept();
    await again.expects("050100");
    again.send("0500");
    await again.expects(CONNECT);
    await settle();
    pass(started + 29_900 - timers.now());
    expect(client.events).toEqual([]);
    pass(200);
    expect(await client.refused()).toMatch(/^timeout 0: .*to the request/);
    // The client has its answer; what the proxy can is still open.
    expect(upstream.pipelining.status).toBe("unknown");
  });

  test("where it is taken a server that breaks is another one: done again, and learnt anew", async () => {
    const [upstream, server] = await taken();
    const [client, peer] = await ahead(upstream, server);
    peer.socket.end();
    await (await server.accept()).grant();
    await client.has("open");
    expect(upstream.pipelining).toMatchObject({ status: "unknown", redone: 1 });
    // The one that was done again counts as the first.
    for (let i = 1; i < FIRST_STEPWISE; i++) await stepwise(upstream, server);
    const [trial, answering] = await ahead(upstream, server);
    answering.send(`0500${GRANT}`);
    await trial.has("open");
    expect(logged.filter((line) => /one write/.test(line)).length).toBe(1);
  });

  test("where it is taken a refusal is the destination's", async () => {
    const [upstream, server] = await taken();
    const [client, peer] = await ahead(upstream, server);
    peer.send("05000505");
    expect(await client.refused()).toMatch(/^reply 5/);
    const [closed, closing] = await ahead(upstream, server);
    closing.socket.end(Buffer.from("0500", "hex"));
    expect(await closed.refused()).toMatch(/^reply 1: .*instead of a reply/);
    expect(upstream.pipelining).toMatchObject({ status: "taken", redone: 0 });
  });

  test("where it is taken the destination has the whole dial, and many that are silent are learnt from", async () => {
    const [upstream, server] = await taken();
    for (let i = 1; i <= MAX_SILENT; i++) {
      const [client, peer] = await ahead(upstream, server);
      peer.send("0500");
      await settle();
      pass(29_900);
      expect(client.events).toEqual([]);
      pass(200);
      expect(await client.refused()).toMatch(/^timeout 0: .*to the request/);
      expect(client.refusal?.isProxySilent).toBe(false);
      expect(upstream.pipelining.status).toBe(i < MAX_SILENT ? "taken" : "unknown");
    }
    await stepwise(upstream, server);
  });

  test("where it is taken a proxy that says nothing is tried again at half of the dial", async () => {
    const [upstream, server] = await taken();
    const [client] = await ahead(upstream, server);
    await settle();
    pass(15_020);
    await (await server.accept()).grant();
    await client.has("open");
  });

  test("off: always step by step", async () => {
    const server = await ScriptedServer.listen();
    const upstream = upstreamOf(shape, server, "off");
    for (let i = 0; i < FIRST_STEPWISE + 2; i++) await stepwise(upstream, server);
    expect(upstream.pipelining).toMatchObject({ status: "not taken", trials: 0 });
    expect(logged.filter((line) => /one write/.test(line))).toEqual([]);
  });

  test("on: the first one too, and what breaks is refused", async () => {
    const server = await ScriptedServer.listen();
    const upstream = upstreamOf(shape, server, "on");
    const [client, peer] = await ahead(upstream, server);
    peer.send(`0500${GRANT}`);
    await client.has("open");
    const [broken, breaking] = await ahead(upstream, server);
    breaking.socket.end();
    expect(await broken.refused()).toMatch(/^protocol 0/);
    expect(upstream.pipelining).toMatchObject({ status: "taken", redone: 0 });
  });

  test("credentials leave ahead only for a server that has chosen them before (RFC 1928 §3, RFC 1929 §2)", async () => {
    const server = await ScriptedServer.listen();
    const upstream = upstreamOf(shape, server, "on", "me:pw@");
    const first = new Recorder().connect(upstream);
    const refusing = await server.accept();
    await refusing.expects("050102");
    await settle();
    expect(refusing.received.length).toBe(0);
    refusing.send("05ff");
    expect(await first.refused()).toMatch(/^auth/);
    // Whoever asks only whether the proxy has us asks step by step, and learns that it has.
    const probe = upstream.probe();
    const asked = await server.accept();
    await asked.expects("050102");
    asked.send("0502");
    await asked.expects(LOGIN);
    asked.send("0100");
    expect(await probe).toBeNull();
    const client = new Recorder().connect(upstream);
    const peer = await server.accept();
    await peer.expects(WHOLE_LOGIN);
    peer.send(`05020100${GRANT}`);
    await client.has("open");
  });

  test.each([
    ["another method", "0500", /^protocol 0: .*chose no authentication/],
    ["no method", "05ff", /^auth 0: .*no method that we offer/],
    ["a wrong password", "05020101", /^auth 0: .*refused user and password/],
  ])(
    "what was said ahead is answered with %s: refused as step by step",
    async (_what, answer, why) => {
      const server = await ScriptedServer.listen();
      const upstream = upstreamOf(shape, server, "on", "me:pw@");
      const probe = upstream.probe();
      const asked = await server.accept();
      await asked.expects("050102");
      asked.send("0502");
      await asked.expects(LOGIN);
      asked.send("0100");
      await probe;
      const client = new Recorder().connect(upstream);
      const peer = await server.accept();
      await peer.expects(WHOLE_LOGIN);
      peer.send(answer);
      expect(await client.refused()).toMatch(why);
      expect(client.refusal?.error.message).not.toContain("pw");
    },
  );

  test("an association speaks ahead where it is taken, and is no trial", async () => {
    const [upstream, server] = await learned();
    const handler = { onOpen() {}, onRefused() {}, onDatagram() {}, onLost() {} };
    const first = upstream.associate(handler);
    const asked = await server.accept();
    await asked.expects("050100");
    await settle();
    expect(asked.received.length).toBe(0);
    first.close();
    const [client, peer] = await ahead(upstream, server);
    peer.send(`0500${GRANT}`);
    await client.has("open");
    const second = upstream.associate(handler);
    await (await server.accept()).expects("05010005030001000000000000");
    second.close();
  });
});
