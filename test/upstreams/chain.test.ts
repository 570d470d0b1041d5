import { describe, expect, test } from "vitest";
import { parseProxyUrl } from "../../src/socks/proxy-url.ts";
import { ChainUpstream } from "../../src/upstreams/chain-upstream.ts";
import {
  endpoint,
  reply,
  type ScriptedStream,
  type ScriptedUpstream,
  trouble,
} from "../support/scripted-upstream.ts";
import {
  Client,
  DEADLINE,
  socketEnvironment,
  TARGET,
  UdpClient,
  UpstreamWorld,
} from "./harness.ts";

const CONNECT = "050100015db8d8220050";
const GRANT = "05000001000000000000";
const ASSOCIATE = "05030001000000000000";
const NO_UDP = 7;
const A = "socks5://a:1080";
const B = "socks5://192.0.2.2:1081";

interface Opened {
  readonly world: UpstreamWorld;
  readonly chain: ChainUpstream;
  /** The proxy before: its streams lead to the one under test. */
  readonly before: ScriptedUpstream;
  client(): Client;
}

function open(url: string = B, shape: "direct" | "layered" = "direct"): Opened {
  const world = new UpstreamWorld();
  const [before] = world.upstreams(1) as [ScriptedUpstream];
  before.shape = shape;
  const chain = new ChainUpstream(before, parseProxyUrl(url), socketEnvironment(world));
  return { world, chain, before, client: () => new Client(chain, world.memory) };
}

/** What the proxy under test was sent since the last time. */
function take(stream: ScriptedStream): string {
  return Buffer.from(stream.sent.splice(0)).toString("hex");
}

function send(stream: ScriptedStream, hex: string): void {
  stream.deliver(Buffer.from(hex, "hex"));
}

/** The dialogue up to and including the request. */
function request(stream: ScriptedStream): string {
  stream.open();
  expect(take(stream)).toBe("050100");
  send(stream, "0500");
  return take(stream);
}

describe.each(["direct", "layered"] as const)("over %s streams", (shape) => {
  test("a flow is a CONNECT to the next proxy, whose handshake follows on it", () => {
    const { before, client } = open(B, shape);
    const flow = client();
    expect(before.stream.target).toBe("192.0.2.2:1081");
    expect(request(before.stream)).toBe(CONNECT);
    expect(flow.events).toEqual([]);
    send(before.stream, GRANT);
    expect(flow.events).toEqual(["open"]);
    expect(flow.stream.shape).toBe(shape);
    flow.send("ping");
    expect(take(before.stream)).toBe("70696e67");
    send(before.stream, "706f6e67");
    expect(flow.text).toBe("pong");
    before.stream.end();
    expect(flow.events).toEqual(["open", "end"]);
    flow.stream.close();
    expect(before.stream.state).toBe("closed");
  });

  test("credentials are those of each proxy, and what is glued to the reply is the flow's", () => {
    const { before, client } = open("socks5://me:pw@192.0.2.2:1081", shape);
    const flow = client();
    before.stream.open();
    expect(take(before.stream)).toBe("050102");
    send(before.stream, "0502");
    expect(take(before.stream)).toBe("01026d65027077");
    send(before.stream, "0100");
    expect(take(before.stream)).toBe(CONNECT);
    send(before.stream, `${GRANT}6869`);
    expect([flow.events, flow.text]).toEqual([["open"], "hi"]);
  });

  test("messages and answers may come and go octet by octet", () => {
    const { before, client } = open(B, shape);
    const flow = client();
    before.stream.room = 1;
    before.stream.open();
    for (let i = 0; i < 3; i++) before.stream.allow(1);
    expect(take(before.stream)).toBe("050100");
    send(before.stream, "05");
    send(before.stream, "00");
    for (let i = 0; i < 10; i++) before.stream.allow(1);
    expect(take(before.stream)).toBe(CONNECT);
    for (let at = 0; at < GRANT.length; at += 2) send(before.stream, GRANT.slice(at, at + 2));
    expect(flow.events).toContain("open");
  });

  test("what the last proxy says of a destination stays what it is, and names the proxy", () => {
    const { before, client } = open(B, shape);
    const flow = client();
    request(before.stream);
    send(before.stream, "05050001000000000000");
    expect(flow.refusal).toMatchObject({ kind: "reply", reply: 5 });
    expect(flow.refusal?.error.message).toBe(
      `chain ${A} -> ${B}: proxy ${B}: it refused: connection refused (05)`,
    );
    expect(before.stream.state).toBe("closed");
  });

  test("a stream that ends or breaks in the handshake is told by the proxy's name", () => {
    const { before, client } = open(B, shape);
    const ended = client();
    before.stream.open();
    before.stream.end();
    expect(ended.refusal?.kind).toBe("protocol");
    const broken = client();
    request(before.stream);
    before.stream.breakOff();
    expect(broken.refusal).toMatchObject({ kind: "reply", reply: 1 });
  });

  test("a flow that is given up while it is opened leaves nothing", () => {
    const { world, before, client } = open(B, shape);
    client().stream.close();
    expect(before.stream.state).toBe("closed");
    const flow = client();
    request(before.stream);
    flow.stream.close();
    expect(before.stream.state).toBe("closed");
    world.pass(DEADLINE);
    expect(flow.events).toEqual([]);
  });

  test("a silent proxy is the chain's failure, a silent destination is not", () => {
    const { world, before, client } = open(B, shape);
    const first = client();
    world.pass(DEADLINE);
    expect(first.refusal).toMatchObject({ kind: "timeout", isProxySilent: true });
    const second = client();
    before.stream.open();
    world.pass(DEADLINE / 2);
    expect(second.refusal).toMatchObject({ kind: "timeout", isProxySilent: true });
    const third = client();
    request(before.stream);
    world.pass(DEADLINE);
    expect(third.refusal).toMatchObject({ kind: "timeout", isProxySilent: false });
    expect(before.stream.state).toBe("closed");
  });

  test("once a proxy is seen to take it, its handshake leaves in one write; if that hangs it is done again", () => {
    const { world, before, client } = open(B, shape);
    for (let i = 0; i < 4; i++) {
      client();
      request(before.stream);
      send(before.stream, GRANT);
    }
    const flow = client();
    before.stream.open();
    expect(take(before.stream)).toBe(`050100${CONNECT}`);
    world.pass(1000);
    expect(before.streams[4]?.state).toBe("closed");
    expect(before.streams.length).toBe(6);
    expect(request(before.stream)).toBe(CONNECT);
    send(before.stream, GRANT);
    expect(flow.events).toEqual(["open"]);
  });
});

test("the proxy before that cannot reach the next one says nothing of the destination", () => {
  const { before, client } = open();
  const flow = client();
  before.stream.refuse(reply(5));
  expect(flow.refusal).toMatchObject({ kind: "unreachable", reply: 0 });
  expect(flow.refusal?.error.message).toBe(`chain ${A} -> ${B}: the server answered 5`);
  const other = client();
  before.stream.refuse(trouble("timeout"));
  expect(other.refusal).toMatchObject({ kind: "timeout", isProxySilent: true });
  const local = client();
  before.stream.refuse(trouble("local"));
  expect(local.refusal?.kind).toBe("local");
});

test("of a chain the last proxy is the one whose grants may be worth nothing", () => {
  const { chain, before, client } = open();
  const flow = client();
  request(before.stream);
  send(before.stream, GRANT);
  expect(flow.stream.honesty).toBe(chain.proxy.honesty);
});

test("the name of the next proxy is left to the one before", () => {
  const { before, client } = open("socks5://inner.example:9");
  client();
  expect(before.stream.target).toBe("inner.example:9");
});

test("each proxy is spoken to in its own protocol", () => {
  const { before, client } = open("socks4a://192.0.2.2:1081");
  const flow = client();
  before.stream.open();
  expect(take(before.stream)).toBe("040100505db8d82200");
  send(before.stream, "005a000000000000");
  expect(flow.events).toEqual(["open"]);
  const web = open("http://me:pw@192.0.2.2:8080");
  const other = web.client();
  web.before.stream.open();
  expect(Buffer.from(take(web.before.stream), "hex").toString()).toMatch(
    /^CONNECT 93\.184\.216\.34:80 HTTP\/1\.1\r\n(.+\r\n)*Proxy-Authorization: Basic bWU6cHc=\r\n\r\n$/,
  );
  const head = Buffer.from("HTTP/1.1 200 OK\r\nVia: x\r\n\r\n").toString("hex");
  send(web.before.stream, `${head}6869`);
  expect([other.events, other.text]).toEqual([["open"], "hi"]);
});

test("chains are as long as they are written, and name the whole way", () => {
  const { world, chain, before } = open();
  const longer = new ChainUpstream(chain, parseProxyUrl("c.example:3"), socketEnvironment(world));
  const flow = new Client(longer, world.memory);
  const toC = `050100030963${Buffer.from(".example").toString("hex")}0003`;
  expect(request(before.stream)).toBe(toC);
  send(before.stream, GRANT);
  expect(take(before.stream)).toBe("050100");
  send(before.stream, "0500");
  expect(take(before.stream)).toBe(CONNECT);
  send(before.stream, "05020001000000000000");
  expect(flow.refusal?.error.message).toBe(
    `chain ${A} -> ${B} -> socks5://c.example:3: proxy socks5://c.example:3: it refused: not allowed by the ruleset (02)`,
  );
  const refused = new Client(longer, world.memory);
  request(before.stream);
  send(before.stream, "05040001000000000000");
  expect(refused.refusal?.kind).toBe("unreachable");
  expect(refused.refusal?.error.message).toBe(
    `chain ${A} -> ${B} -> socks5://c.example:3: proxy ${B}: it refused: host unreachable (04)`,
  );
});

test("the probe goes as far as the last proxy's method, and asks for nothing", async () => {
  const { chain, before } = open();
  const good = chain.probe();
  await Promise.resolve();
  before.stream.open();
  send(before.stream, "0500");
  expect(await good).toBe(null);
  expect([take(before.stream), before.stream.state]).toEqual(["050100", "closed"]);
  const bad = chain.probe();
  await Promise.resolve();
  before.stream.open();
  send(before.stream, "05ff");
  expect((await bad)?.kind).toBe("auth");
});

// ---- UDP ----------------------------------------------------------------------------------------------------------

/** An association of the one before, then the control connection up to the request. */
function associated({ world, chain, before }: Opened, bound: string): UdpClient {
  const flow = new UdpClient(chain, world.memory);
  expect(before.streams.length).toBe(0);
  before.association.open();
  expect(before.stream.target).toMatch(/:1081$/);
  before.stream.open();
  take(before.stream);
  send(before.stream, "0500");
  expect(take(before.stream)).toBe(ASSOCIATE);
  send(before.stream, `050000${bound}`);
  return flow;
}

/** 192.0.2.2:8000. */
const RELAY = "01c00002021f40";
/** RSV, FRAG and 93.184.216.34:80. */
const HEADER = "000000015db8d8220050";

test("datagrams carry a header for each proxy: the last one's is payload to its relay", () => {
  const opened = open();
  const flow = associated(opened, RELAY);
  expect(flow.events).toEqual(["open"]);
  const { association } = opened.before;
  flow.send("ping");
  expect(association.sent).toEqual([
    {
      to: "192.0.2.2:8000",
      payload: new Uint8Array(Buffer.from(`${HEADER}70696e67`, "hex")),
    },
  ]);
  association.deliver("192.0.2.2:8000", Buffer.from(`${HEADER}706f6e67`, "hex"));
  expect(flow.events).toEqual(["open", "93.184.216.34:80 pong"]);
  // From elsewhere, behind the proxy before.
  association.deliver("192.0.2.9:8000", Buffer.from(`${HEADER}706f6e67`, "hex"));
  expect(flow.events.length).toBe(2);
  expect(opened.chain.counters.foreign).toBe(1);
  flow.association.close();
  expect([association.state, opened.before.stream.state]).toEqual(["closed", "reset"]);
});

test("a relay without an address has the proxy's own", () => {
  const opened = open();
  const flow = associated(opened, "01000000001f40");
  flow.send("ping");
  expect(opened.before.association.sent[0]?.to).toBe("192.0.2.2:8000");
});

test("where only the proxy before knows that address there is no UDP, and it is said why", () => {
  const opened = open("socks5://inner.example:1081");
  const flow = associated(opened, "01000000001f40");
  expect(flow.refusal).toMatchObject({ kind: "reply", reply: NO_UDP });
  expect(flow.refusal?.error.message).toContain("its own only the proxy before it knows; name it");
  expect(opened.before.association.state).toBe("closed");
});

test("what fits is what the header of each proxy leaves", () => {
  const opened = open();
  const flow = associated(opened, RELAY);
  expect(flow.association.maxPayload(TARGET)).toBe(65_507 - 2 * 10);
  expect(flow.association.maxPayload({ ...TARGET, name: "a.example" })).toBe(65_507 - 10 - 7 - 9);
  opened.before.association.largest = 1200;
  expect(flow.association.maxPayload(TARGET)).toBe(1200 - 2 * 10);
});

test("a full queue is handed on and goes on", () => {
  const opened = open();
  const flow = associated(opened, RELAY);
  opened.before.association.capacity = 2;
  const { memory } = opened.world;
  for (let i = 0; i < 5; i++) {
    const at = memory.datagrams.take(1);
    memory.bytes[at] = 0x61 + i;
    const to = { name: null, endpoint: endpoint("93.184.216.34:80") };
    expect(flow.association.send(to, at, at + 1, 0)).toBe(true);
  }
  flow.association.flush();
  const sent = opened.before.association.sent.map(({ payload }) =>
    String.fromCharCode(payload.at(-1)!),
  );
  expect(sent).toEqual(["a", "b", "c", "d", "e"]);
  expect(opened.chain.counters.sent).toBe(5);
});

test("whoever has no UDP is named, and no proxy behind it is asked", () => {
  const { world, chain, before } = open();
  const flow = new UdpClient(chain, world.memory);
  before.association.refuse(reply(NO_UDP));
  expect(flow.refusal).toMatchObject({ kind: "reply", reply: NO_UDP });
  expect(flow.refusal?.error.message).toBe(`chain ${A} -> ${B}: the server answered 7`);
  expect(before.streams.length).toBe(0);
});

test("a protocol without UDP has none behind another proxy either, and that one is not asked", () => {
  const { world, chain, before } = open("http://192.0.2.2:8080");
  const flow = new UdpClient(chain, world.memory);
  world.pass(0);
  expect(flow.refusal).toMatchObject({ kind: "reply", reply: NO_UDP });
  expect(flow.refusal?.error.message).toBe(
    `chain ${A} -> http://192.0.2.2:8080: proxy http://192.0.2.2:8080: its protocol has no UDP; use a SOCKS5 proxy for it`,
  );
  expect(before.associations.length).toBe(0);
});

test("the association ends with either of its two, and both end with it", () => {
  const first = open();
  const flow = associated(first, RELAY);
  first.before.association.lose();
  expect(flow.events).toEqual(["open", "lost"]);
  expect(first.before.stream.state).toBe("reset");
  const second = open();
  const other = associated(second, RELAY);
  second.world.pass(2000);
  second.before.stream.end();
  expect(other.events).toEqual(["open", "lost"]);
  expect(second.before.association.state).toBe("closed");
});
