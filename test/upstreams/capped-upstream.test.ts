import { expect, test } from "vitest";
import { CappedUpstream, MAX_WAITING } from "../../src/upstreams/capped-upstream.ts";
import { reply, type ScriptedUpstream } from "../support/scripted-upstream.ts";
import { Client, UdpClient, UpstreamWorld } from "./harness.ts";

const PATIENCE = 30_000;

interface Opened {
  readonly world: UpstreamWorld;
  readonly capped: CappedUpstream;
  readonly proxy: ScriptedUpstream;
  client(): Client;
}

function open(limit: number): Opened {
  const world = new UpstreamWorld();
  const [proxy] = world.upstreams(1) as [ScriptedUpstream];
  const capped = new CappedUpstream(proxy, limit, world.time, PATIENCE);
  return { world, capped, proxy, client: () => new Client(capped, world.memory) };
}

test("so many streams dial or are open, the others wait their turn, and those given up never get one", () => {
  const { capped, proxy, client } = open(2);
  const clients = Array.from({ length: 5 }, client) as [Client, Client, Client, Client, Client];
  expect(proxy.streams.length).toBe(2);
  expect(capped).toMatchObject({ active: 2, waiting: 3, isFull: true });
  proxy.streams[0]?.open();
  expect(proxy.streams.length).toBe(2);
  clients[2].stream.close();
  clients[0].stream.close();
  expect(proxy.streams.length).toBe(3);
  proxy.streams[1]?.refuse(reply(5));
  expect(clients[1].events).toEqual(["refused"]);
  expect(proxy.streams.length).toBe(4);
  proxy.streams[2]?.open();
  expect(clients[3].events).toEqual(["open"]);
  clients[3].stream.reset();
  clients[4].stream.close();
  expect(capped).toMatchObject({ active: 0, waiting: 0, isFull: false });
});

test("a stream that waited carries octets both ways, in its shape", () => {
  const { proxy, client } = open(1);
  const first = client();
  proxy.shape = "layered";
  const second = client();
  first.stream.close();
  proxy.stream.open();
  expect(second.stream.shape).toBe("layered");
  second.send("ping");
  proxy.stream.deliver(Buffer.from("pong"));
  expect([Buffer.from(proxy.stream.sentBytes).toString(), second.text]).toEqual(["ping", "pong"]);
});

test("a place that a broken stream had is free", () => {
  const { capped, proxy, client } = open(1);
  proxy.shape = "layered";
  client();
  proxy.stream.open();
  proxy.stream.breakOff();
  expect(capped.active).toBe(0);
});

test("whoever waits longer than a dial may take is refused as by our own limit", () => {
  const { world, capped, client } = open(1);
  client();
  const late = client();
  world.pass(PATIENCE - 10);
  expect(late.events).toEqual([]);
  world.pass(10);
  expect(late.refusal?.kind).toBe("local");
  expect(late.refusal?.error.message).toBe(
    "proxy socks5://a:1080: its limit of 1 at a time (max) is reached and no place became free for 30 s; raise it if the proxy takes more",
  );
  expect(capped).toMatchObject({ expired: 1, waiting: 0, active: 1 });
});

test("beyond 128 that wait the next is refused, and never dials", () => {
  const { world, capped, proxy, client } = open(1);
  const first = client();
  for (let i = 0; i < MAX_WAITING; i++) client();
  const last = client();
  expect(capped.waiting).toBe(128);
  world.pass(0);
  expect(last.refusal?.kind).toBe("local");
  expect(capped).toMatchObject({ crowded: 1, waiting: 128 });
  first.stream.close();
  expect(capped.waiting).toBe(127);
  expect(proxy.streams.length).toBe(2);
});

test("associations are not counted", () => {
  const { world, capped, proxy, client } = open(1);
  client();
  new UdpClient(capped, world.memory);
  expect(proxy.associations.length).toBe(1);
});
