import { afterEach, describe, expect, test } from "vitest";
import type { SocksUpstream } from "../../src/socks/upstream.ts";
import {
  CONNECT,
  closeServers,
  descriptors,
  destination,
  endpoint,
  GRANT,
  open,
  type Peer,
  pass,
  Recorder,
  ScriptedServer,
  SHAPES,
  settle,
  timers,
  until,
} from "./client-harness.ts";

afterEach(closeServers);

/** The messages of a handshake with credentials, up to and including `steps` answers. */
async function play(peer: Peer, steps: number): Promise<void> {
  const dialogue = [
    ["050102", "0502"],
    ["01026d65027077", "0100"],
    [CONNECT, GRANT],
  ] as const;
  for (const [message, answer] of dialogue.slice(0, steps)) {
    await peer.expects(message);
    peer.send(answer);
  }
  const waiting = dialogue[steps];
  if (waiting !== undefined) await peer.expects(waiting[0]);
}

describe.each(SHAPES)("dialling, %s shape", (shape) => {
  async function dialled(credentials = ""): Promise<{
    upstream: SocksUpstream;
    server: ScriptedServer;
    client: Recorder;
    peer: Peer;
  }> {
    const server = await ScriptedServer.listen();
    const upstream = open(shape, `socks5://${credentials}127.0.0.1:${server.port}`);
    const client = new Recorder().connect(upstream);
    return { upstream, server, client, peer: await server.accept() };
  }

  test("opens, and carries octets both ways", async () => {
    const { client, peer } = await dialled();
    await peer.grant();
    await client.has("open");
    expect(client.send("ping")).toBe(4);
    await peer.expects("70696e67");
    peer.send("706f6e67");
    await until("pong", () => client.text === "pong");
    // Whoever sent is looked at once more, and not again while nothing is outstanding.
    pass(10_010);
    expect(timers.next()).toBe(-1);
    client.stream?.close();
    expect(await peer.gone()).toMatch(/ended|closed/);
  });

  test("sends credentials when the server takes them (RFC 1929)", async () => {
    const { client, peer } = await dialled("me:pw@");
    await play(peer, 3);
    await client.has("open");
  });

  test("understands answers that come octet by octet", async () => {
    const { client, peer } = await dialled("me:pw@");
    await peer.expects("050102");
    await peer.trickle("0502");
    await peer.expects("01026d65027077");
    await peer.trickle("0500");
    await peer.expects(CONNECT);
    await peer.trickle("0500000305612e622e630050");
    await client.has("open");
    peer.send("61");
    await until("payload", () => client.text === "a");
  });

  test("delivers payload that is glued to the reply", async () => {
    const { client, peer } = await dialled();
    await peer.grant(Buffer.from("SSH-2.0-x").toString("hex"));
    await until("payload", () => client.text === "SSH-2.0-x");
    expect(client.events[0]).toBe("open");
  });

  test("keeps glued payload for later when paused inside onOpen", async () => {
    const server = await ScriptedServer.listen();
    const client = new Recorder();
    client.whenOpen = (stream) => stream.pause();
    client.connect(open(shape, server.url));
    const peer = await server.accept();
    await peer.grant("6869");
    await client.has("open");
    await settle();
    expect(client.text).toBe("");
    client.stream?.resume();
    await until("payload", () => client.text === "hi");
  });

  test("a stream closed inside onOpen tells nothing more", async () => {
    const server = await ScriptedServer.listen();
    const client = new Recorder();
    client.whenOpen = (stream) => stream.close();
    client.connect(open(shape, server.url));
    const peer = await server.accept();
    await peer.grant("6869");
    await peer.gone();
    expect(client.events).toEqual(["open"]);
  });

  test("names and IPv6 addresses travel as such", async () => {
    const server = await ScriptedServer.listen();
    const upstream = open(shape, server.url);
    new Recorder().connect(upstream, { name: "a.example", endpoint: endpoint("0.0.0.0", 443) });
    const named = await server.accept();
    await named.expects("050100");
    named.send("0500");
    await named.expects(`0501000309${Buffer.from("a.example").toString("hex")}01bb`);
    new Recorder().connect(upstream, destination("2001:db8::1", 443));
    const v6 = await server.accept();
    await v6.expects("050100");
    v6.send("0500");
    await v6.expects("0501000420010db800000000000000000000000101bb");
  });

  test.each([
    ["0505", /^reply 5: .*connection refused/],
    ["05030001", /^reply 3: .*network unreachable/],
    ["05040000000000000000", /^reply 4: .*host unreachable/],
    ["05f3", /^reply 243: /],
  ])("reply %s refuses, whatever is behind it or not", async (reply, expected) => {
    const { client, peer } = await dialled();
    await peer.expects("050100");
    peer.send("0500");
    await peer.expects(CONNECT);
    peer.send(reply);
    expect(await client.refused()).toMatch(expected);
    expect(client.events).toEqual(["refused"]);
    await peer.gone();
    expect(timers.next()).toBe(-1);
  });

  test.each([
    ["05ff", /^auth 0: .*no method that we offer \(no authentication\)/],
    ["485454502f312e31203430300d0a", /^protocol 0: .*HTTP/],
    ["005a", /^protocol 0: .*SOCKS4/],
  ])("greeting answered with %s", async (answer, expected) => {
    const { client, peer } = await dialled();
    await peer.expects("050100");
    peer.send(answer);
    expect(await client.refused()).toMatch(expected);
  });

  test("wrong credentials are a refusal that does not show them", async () => {
    const { client, peer } = await dialled("me:SECRET@");
    await peer.expects("050102");
    peer.send("0502");
    await peer.expects("01026d6506534543524554");
    peer.send("0101");
    expect(await client.refused()).toBe(
      `auth 0: proxy socks5://127.0.0.1:${peer.socket.localPort}: it refused user and password; check them`,
    );
  });

  const ends: ReadonlyArray<readonly [number, RegExp]> = [
    [0, /^protocol 0: .*is it a SOCKS5 server/],
    [1, /^auth 0: .*closed the connection after the credentials/],
    [2, /^reply 1: .*instead of a reply/],
  ];

  test.each(ends)("a server that closes after %d answers", async (steps, expected) => {
    const { client, peer } = await dialled("me:pw@");
    await play(peer, steps);
    peer.socket.end();
    expect(await client.refused()).toMatch(expected);
    await peer.gone();
  });

  test.each(ends)("a server that resets after %d answers", async (steps, expected) => {
    const { client, peer } = await dialled("me:pw@");
    await play(peer, steps);
    peer.socket.resetAndDestroy();
    expect(await client.refused()).toMatch(expected);
  });

  test.each([
    [0, 15_000, /^timeout 0: .*to the negotiation/],
    [1, 15_000, /^timeout 0: .*to the negotiation/],
    [2, 30_000, /^timeout 0: .*to the request in time/],
  ])("a server that falls silent after %d answers", async (steps, deadline, expected) => {
    const { client, peer } = await dialled("me:pw@");
    await play(peer, steps);
    await settle();
    pass(deadline - 1000);
    expect(client.events).toEqual([]);
    pass(1010);
    expect(await client.refused()).toMatch(expected);
    expect(client.refusal?.isProxySilent).toBe(steps < 2);
    await peer.gone();
    expect(timers.next()).toBe(-1);
  });

  test("answers that come slowly do not move the deadline of the whole", async () => {
    const { client, peer } = await dialled("me:pw@");
    await play(peer, 0);
    pass(14_000);
    peer.send("0502");
    await peer.expects("01026d65027077");
    pass(14_000);
    peer.send("0100");
    await peer.expects(CONNECT);
    pass(1900);
    expect(client.events).toEqual([]);
    pass(200);
    expect(await client.refused()).toMatch(/^timeout/);
  });

  test("a closed port is unreachable, told after connect has returned", async () => {
    const server = await ScriptedServer.listen();
    const { url } = server;
    await closeServers();
    const client = new Recorder().connect(open(shape, url));
    expect(await client.refused()).toMatch(/^unreachable 0: .*connection refused; is it running/);
    expect(client.events).toEqual(["refused"]);
  });

  test("a name that was not resolved is refused from the timer, and looked up again", async () => {
    const server = await ScriptedServer.listen();
    const answers: string[][] = [[], ["127.0.0.1"]];
    let lookups = 0;
    const upstream = open(shape, `socks5://proxy.test:${server.port}`, {
      lookup: (_name, done) => {
        lookups++;
        setImmediate(() => done(answers.shift() ?? []));
      },
    });
    await upstream.resolve();
    const first = new Recorder().connect(upstream);
    pass(0);
    expect(await first.refused()).toMatch(/^unreachable 0: .*proxy\.test does not resolve/);
    expect(lookups).toBe(1);
    pass(60_000);
    new Recorder().connect(upstream);
    pass(0);
    await settle();
    expect(lookups).toBe(2);
    new Recorder().connect(upstream);
    await server.accept();
    upstream.close();
  });

  test("every address of a name is tried, and the one that answered comes first then", async () => {
    const server = await ScriptedServer.listen();
    const upstream = open(shape, `socks5://proxy.test:${server.port}`, {
      // Nobody listens on the first two.
      lookup: (_name, done) => setImmediate(() => done(["127.0.0.2", "127.0.0.3", "127.0.0.1"])),
    });
    await upstream.resolve();
    const first = new Recorder().connect(upstream);
    await (await server.accept()).grant();
    await first.has("open");
    const second = new Recorder().connect(upstream);
    const peer = await server.accept();
    expect(peer.socket.remoteAddress).toBe("127.0.0.1");
    await peer.grant();
    await second.has("open");
    await closeServers();
    const third = new Recorder().connect(upstream);
    expect(await third.refused()).toMatch(/^unreachable/);
  });

  test("close before the answer cancels the dial and says nothing", async () => {
    const { upstream, client, peer, server } = await dialled();
    await peer.expects("050100");
    client.stream?.close();
    client.stream?.close();
    expect(await peer.gone()).toMatch(/ended|closed|ECONNRESET/);
    pass(60_000);
    expect(client.events).toEqual([]);
    expect(timers.next()).toBe(-1);
    // Its record serves the next dial.
    const next = new Recorder().connect(upstream);
    await (await server.accept()).grant();
    await next.has("open");
  });

  test("no outcome leaks a descriptor", async () => {
    const before = descriptors();
    const server = await ScriptedServer.listen();
    const upstream = open(shape, server.url);
    for (let i = 0; i < 20; i++) {
      const client = new Recorder().connect(upstream);
      const peer = await server.accept();
      await peer.expects("050100");
      if (i % 4 === 0) client.stream?.close();
      else if (i % 4 === 1) peer.send("05ff");
      else if (i % 4 === 2) peer.socket.resetAndDestroy();
      else pass(30_000);
      if (i % 4 !== 0) await client.refused();
      await peer.gone();
    }
    await closeServers();
    await until("descriptors", () => descriptors() <= before);
  });

  test("the probe ends after the authentication, with null when all is well", async () => {
    const server = await ScriptedServer.listen();
    const probe = open(shape, `socks5://me:pw@127.0.0.1:${server.port}`).probe();
    const peer = await server.accept();
    await play(peer, 1);
    peer.send("0100");
    expect(await probe).toBeNull();
    await peer.gone();
    expect(peer.received.length).toBe(0);
  });

  test.each([
    ["05ff", "ERR_PROXY_AUTH"],
    ["4854", "ERR_PROXY_PROTOCOL"],
  ])("the probe tells why not: %s", async (answer, code) => {
    const server = await ScriptedServer.listen();
    const probe = open(shape, server.url).probe();
    const peer = await server.accept();
    await peer.expects("050100");
    peer.send(answer);
    expect((await probe)?.error.code).toBe(code);
  });

  test("the probe of a name that does not resolve is a refusal", async () => {
    const upstream = open(shape, "socks5://proxy.test", { lookup: (_name, done) => done([]) });
    const probe = upstream.probe();
    await settle();
    pass(0);
    expect((await probe)?.error.code).toBe("ERR_PROXY_UNREACHABLE");
  });
});

test("a mark or an interface without the addon is refused when the upstream is made", () => {
  expect(() => open("layered", "socks5://h", { mark: 1 })).toThrow(/no addon/);
  expect(() => open("layered", "socks5://h", { device: "lo" })).toThrow(/no addon/);
});

test("an interface that is not there is our own trouble, not the proxy's", async () => {
  const client = new Recorder().connect(open("direct", "socks5://127.0.0.1", { device: "nope0" }));
  pass(0);
  expect(await client.refused()).toMatch(/^local 0: .*no such network interface/);
});
