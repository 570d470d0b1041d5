import { expect, test } from "vitest";
import { ProxyHonesty } from "../../src/socks/honesty.ts";
import type { ProxyUpstream, Refusal } from "../../src/socks/ports.ts";
import { Pool, type PoolOptions } from "../../src/upstreams/pool.ts";
import { reply, type ScriptedUpstream, trouble } from "../support/scripted-upstream.ts";
import { Client, DEADLINE, TARGET, UdpClient, UpstreamWorld } from "./harness.ts";

const NO_UDP = 7;

interface Opened {
  readonly world: UpstreamWorld;
  readonly pool: Pool;
  readonly members: ScriptedUpstream[];
  client(): Client;
  udp(): UdpClient;
}

function open(count: number, options: Partial<PoolOptions> = {}): Opened {
  const world = new UpstreamWorld();
  const members = world.upstreams(count);
  const pool = poolOf(world, members, options);
  return {
    world,
    pool,
    members,
    client: () => new Client(pool, world.memory),
    udp: () => new UdpClient(pool, world.memory),
  };
}

function poolOf(
  { time, log }: UpstreamWorld,
  members: readonly ProxyUpstream[],
  options: Partial<PoolOptions>,
): Pool {
  let seed = 1;
  return new Pool(
    members,
    { timers: time, log },
    {
      policy: "failover",
      probeInterval: 0,
      dialDeadline: DEADLINE,
      random: (words) => {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        words[0] = seed >>> 16;
      },
      ...options,
    },
  );
}

/** Streams that each member was asked for. */
function asked(members: readonly ScriptedUpstream[]): number[] {
  return members.map(({ streams }) => streams.length);
}

const silent: Refusal = { ...trouble("timeout"), isProxySilent: true };

// ---- policies -----------------------------------------------------------------------------------------------------

test("failover sends every flow to the first proxy while it works", () => {
  const { members, client } = open(3);
  for (let i = 0; i < 4; i++) {
    client();
    members[0]?.stream.open();
  }
  expect(asked(members)).toEqual([4, 0, 0]);
});

test("round-robin sends flows to each in turn, and leaves out who is down", () => {
  const { members, client } = open(3, { policy: "round-robin" });
  for (let i = 0; i < 6; i++) client();
  expect(asked(members)).toEqual([2, 2, 2]);
  members[1]?.stream.refuse(trouble("unreachable"));
  expect(asked(members)).toEqual([3, 2, 2]);
  for (let i = 0; i < 4; i++) client();
  expect(asked(members)).toEqual([5, 2, 4]);
});

test("least-loaded sends a flow to whoever has the fewest", () => {
  const { members, client, pool } = open(2, { policy: "least-loaded" });
  const first = client();
  members[0]?.stream.open();
  client();
  client();
  expect(asked(members)).toEqual([2, 1]);
  first.stream.close();
  client();
  client();
  expect(asked(members)).toEqual([3, 2]);
  expect(pool.status().map(({ active }) => active)).toEqual([2, 2]);
});

test("random sends flows to all, by the random source", () => {
  const { members, client } = open(4, { policy: "random" });
  for (let i = 0; i < 200; i++) client();
  for (const count of asked(members)) {
    expect(count).toBeGreaterThan(25);
    expect(count).toBeLessThan(75);
  }
});

test("a proxy with all the connections it is given is passed over while another has room", () => {
  const { members, client } = open(2);
  (members[0] as ScriptedUpstream).isFull = true;
  client();
  expect(asked(members)).toEqual([0, 1]);
  (members[1] as ScriptedUpstream).isFull = true;
  client();
  expect(asked(members)).toEqual([1, 1]);
});

// ---- health -------------------------------------------------------------------------------------------------------

test.each<[string, Refusal]>([
  ["unreachable", trouble("unreachable")],
  ["of wrong credentials", trouble("auth")],
  ["no SOCKS", trouble("protocol")],
  ["silent", silent],
])("a flow whose proxy is %s opens through the next, and later ones go there", (_what, refusal) => {
  const { members, client, pool } = open(2);
  const flow = client();
  members[0]?.stream.refuse(refusal);
  expect(flow.events).toEqual([]);
  members[1]?.stream.open();
  expect(flow.events).toEqual(["open"]);
  client();
  expect(asked(members)).toEqual([1, 2]);
  expect(pool.status()).toEqual([
    { label: "socks5://a:1080", state: "down", active: 0, total: 1, failures: 1 },
    { label: "socks5://b:1080", state: "up", active: 2, total: 2, failures: 0 },
  ]);
  expect(pool.sentOn).toBe(1);
});

test.each<[string, Refusal]>([
  ["refuses a destination", reply(5)],
  ["gets no answer from a destination", trouble("timeout")],
  ["is not asked for lack of a port of ours", trouble("local")],
])("a proxy that %s stays, and the flow is told at once", (_what, refusal) => {
  const { members, client, pool } = open(2);
  const flow = client();
  members[0]?.stream.refuse(refusal);
  expect(flow.refusal).toBe(refusal);
  client();
  expect(asked(members)).toEqual([2, 0]);
  expect(pool.status()[0]).toMatchObject({ state: "up", failures: 0 });
});

test("a proxy that is down is tried by one flow after 1 s, then after 2 s, at most 60 s", () => {
  const { world, members, client } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  client();
  a.stream.refuse(trouble("unreachable"));
  const waits = [1, 2, 4, 8, 16, 32, 60, 60];
  waits.forEach((seconds, failures) => {
    world.pass(seconds * 1000 - 10);
    client();
    expect(a.streams.length).toBe(failures + 1);
    world.pass(10);
    client();
    expect(a.streams.length).toBe(failures + 2);
    // Nobody else while that one is under way.
    client();
    expect(a.streams.length).toBe(failures + 2);
    expect(b.streams.length).toBe(1 + 3 * failures + 2);
    a.stream.refuse(trouble("unreachable"));
  });
});

test("a proxy that is back gets flows again, and each change is one line", () => {
  const { world, members, client } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  client();
  a.stream.refuse(trouble("unreachable"));
  world.pass(1000);
  client();
  a.stream.refuse(trouble("unreachable"));
  world.pass(2000);
  client();
  a.stream.open();
  client();
  expect([a.streams.length, b.streams.length]).toEqual([4, 2]);
  expect(world.lines).toEqual([
    "pool: socks5://a:1080 is down: no proxy: unreachable (ERR_PROXY_UNREACHABLE)",
    "pool: socks5://a:1080 is back",
  ]);
});

test("many dials at a proxy that dies are one failure for the back-off", () => {
  const { world, members, client } = open(2);
  const [a] = members as [ScriptedUpstream, ScriptedUpstream];
  for (let i = 0; i < 10; i++) client();
  for (const stream of [...a.streams]) stream.refuse(trouble("unreachable"));
  expect(asked(members)).toEqual([10, 10]);
  world.pass(1000);
  client();
  expect(a.streams.length).toBe(11);
});

test("a client that leaves while its flow tries a proxy anew leaves the try to the next", () => {
  const { world, members, client } = open(2);
  const [a] = members as [ScriptedUpstream, ScriptedUpstream];
  client();
  a.stream.refuse(trouble("unreachable"));
  world.pass(1000);
  client().stream.close();
  expect(a.stream.state).toBe("closed");
  client();
  expect(a.streams.length).toBe(3);
});

test("an answer to what began before tells that a proxy works, its failure nothing", () => {
  const { members, client, pool } = open(2);
  const [a] = members as [ScriptedUpstream, ScriptedUpstream];
  for (let i = 0; i < 3; i++) client();
  a.streams[0]?.refuse(trouble("unreachable"));
  expect(pool.status()[0]?.state).toBe("down");
  a.streams[1]?.open();
  expect(pool.status()[0]?.state).toBe("up");
  a.streams[2]?.refuse(trouble("unreachable"));
  expect(pool.status()[0]?.state).toBe("up");
});

test("when all are dead a flow is told what the last one said, and later ones at once", () => {
  const { world, members, client, pool } = open(2);
  const flow = client();
  members[0]?.stream.refuse(trouble("unreachable"));
  const last = trouble("auth");
  members[1]?.stream.refuse(last);
  expect(flow.refusal).toBe(last);
  const later = client();
  expect(later.events).toEqual([]);
  world.pass(0);
  expect(later.refusal).toBe(last);
  expect(asked(members)).toEqual([1, 1]);
  expect(pool.helpless).toBe(2);
});

test("a flow is tried at each proxy once, as long as a dial may take", () => {
  const { world, members, client } = open(3);
  const flow = client();
  world.pass(20_000);
  members[0]?.stream.refuse(silent);
  world.pass(10_000);
  expect(flow.refusal).toBe(silent);
  expect(members[1]?.stream.state).toBe("closed");
  expect(asked(members)).toEqual([1, 1, 0]);
});

test("a flow that is open is never moved, and its end is counted once", () => {
  const { members, client, pool } = open(2);
  const flow = client();
  members[0]?.stream.open();
  flow.stream.reset();
  flow.stream.close();
  expect(members[0]?.stream.state).toBe("reset");
  expect(asked(members)).toEqual([1, 0]);
  expect(pool.status()[0]).toMatchObject({ active: 0, total: 1 });
});

test("octets pass both ways in the shape of whoever took the flow", () => {
  const { world, members, client } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  b.shape = "layered";
  const flow = client();
  a.stream.refuse(trouble("unreachable"));
  b.stream.open();
  expect(flow.stream.shape).toBe("layered");
  expect(flow.send("ping")).toBe(4);
  expect(Buffer.from(b.stream.sentBytes).toString()).toBe("ping");
  b.stream.deliver(Buffer.from("pong"));
  expect(flow.text).toBe("pong");
  b.stream.breakOff();
  expect(flow.events).toEqual(["open", "errno 104"]);
  world.pass(1000);
  const other = client();
  a.stream.open();
  a.stream.deliver(Buffer.from("direct"));
  expect([other.stream.shape, other.text]).toEqual(["direct", "direct"]);
});

test("whether a grant was honest is asked of whoever gave it, and a refusal told to whoever refused", () => {
  const { world, members, client } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  [a, b].forEach((member, i) => {
    member.honesty = new ProxyHonesty(`${i}`, world.time, world.log);
  });
  const flow = client();
  a.stream.refuse(trouble("unreachable"));
  b.stream.open();
  expect(flow.stream.honesty).toBe(b.honesty);
  const other = client();
  let asked: unknown = null;
  other.onRefused = () => {
    asked = other.stream.honesty;
  };
  b.stream.refuse(reply(5));
  expect(asked).toBe(b.honesty);
});

// ---- probes -------------------------------------------------------------------------------------------------------

test("with probes they alone find out who is back", async () => {
  const { world, members, client, pool } = open(2, { probeInterval: 5000 });
  const [a] = members as [ScriptedUpstream, ScriptedUpstream];
  client();
  a.stream.refuse(trouble("unreachable"));
  a.answer = trouble("unreachable");
  world.pass(5000);
  await Promise.resolve();
  client();
  expect(asked(members)).toEqual([1, 2]);
  a.answer = null;
  world.pass(5000);
  await Promise.resolve();
  client();
  expect(asked(members)).toEqual([2, 2]);
  expect(a.probes).toBe(2);
  pool.close();
  world.pass(60_000);
  expect([a.probes, a.closed]).toEqual([2, true]);
});

test("a probe that hangs is not joined by others", async () => {
  const { world, members, pool } = open(2, { probeInterval: 5000 });
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  const ends: (() => void)[] = [];
  const { probe } = a;
  a.probe = async () => {
    const answer = await probe.call(a);
    await new Promise<void>((done) => ends.push(done));
    return answer;
  };
  for (let i = 0; i < 3; i++) {
    world.pass(5000);
    await Promise.resolve();
  }
  expect([a.probes, b.probes]).toEqual([1, 3]);
  for (const end of ends) end();
  await new Promise((done) => setImmediate(done));
  world.pass(5000);
  expect([a.probes, b.probes]).toEqual([2, 4]);
  pool.close();
});

test("at the start a pool is usable if one of its proxies is, and who is not gets no flow", async () => {
  const { world, members, client, pool } = open(2);
  (members[0] as ScriptedUpstream).answer = trouble("auth");
  expect(await pool.probe()).toBe(null);
  client();
  expect(asked(members)).toEqual([0, 1]);
  expect(world.lines).toEqual([
    "pool: socks5://a:1080 is down: no proxy: auth (ERR_PROXY_UNREACHABLE)",
  ]);
});

test("of a pool that cannot be used the start says what each proxy said", async () => {
  const { world, members, pool } = open(2);
  (members[0] as ScriptedUpstream).answer = trouble("auth");
  (members[1] as ScriptedUpstream).answer = trouble("unreachable");
  const refusal = await pool.probe();
  expect(refusal).toMatchObject({ kind: "auth" });
  expect(refusal?.error.message).toBe(
    "none of 2 proxies can be used: no proxy: auth; no proxy: unreachable",
  );
  expect(world.lines).toEqual([]);
});

// ---- UDP ----------------------------------------------------------------------------------------------------------

test("datagrams go where associations are granted: a proxy without UDP is left out of them, not of streams", () => {
  const { world, members, client, udp } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  const flow = udp();
  a.association.refuse(reply(NO_UDP));
  b.association.open();
  expect(flow.events).toEqual(["open"]);
  b.association.largest = 1210;
  expect(flow.association.maxPayload(TARGET)).toBe(1200);
  flow.send("ping");
  expect(b.association.sent).toEqual([
    { to: "93.184.216.34:80", payload: new Uint8Array(Buffer.from("ping")) },
  ]);
  b.association.deliver("93.184.216.34:80", Buffer.from("pong"));
  expect(flow.events).toEqual(["open", "93.184.216.34:80 pong"]);
  udp();
  expect([a.associations.length, b.associations.length]).toEqual([1, 2]);
  client();
  expect(asked(members)).toEqual([1, 0]);
  expect(world.lines).toEqual([
    "pool: UDP goes through the others: the server answered 7 (ERR_PROXY_PROTOCOL)",
  ]);
  world.pass(5 * 60_000);
  udp();
  expect(a.associations.length).toBe(2);
});

test("datagrams are told that there is no UDP only if no proxy has it", () => {
  const { world, members, udp } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  const flow = udp();
  a.association.refuse(trouble("unreachable"));
  b.association.refuse(reply(NO_UDP));
  // The other one may have it when it is back.
  expect(flow.refusal?.kind).toBe("unreachable");
  world.pass(1000);
  const other = udp();
  a.association.refuse(reply(NO_UDP));
  expect(other.refusal).toMatchObject({ kind: "reply", reply: NO_UDP });
  const third = udp();
  world.pass(0);
  expect(third.refusal).toMatchObject({ kind: "reply", reply: NO_UDP });
});

test("an association that is lost or closed is counted once, and is not moved", () => {
  const { members, udp, pool } = open(2);
  const [a, b] = members as [ScriptedUpstream, ScriptedUpstream];
  const flow = udp();
  a.association.open();
  a.association.lose();
  expect(flow.events).toEqual(["open", "lost"]);
  flow.association.close();
  udp().association.close();
  expect([a.associations.length, b.associations.length]).toEqual([2, 0]);
  expect(pool.status()[0]).toMatchObject({ active: 0, total: 2 });
});
