/**
 * A server that does everything wrong that can be done wrong, octet by octet, against both shapes of stream.
 *
 * Each connection opens or is refused as the octets say, within the dial's time; what it delivers is what stands
 * behind the reply, octet by octet; and nothing of it is left, neither a descriptor nor a timer.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { pattern } from "../../src/testing/pattern.ts";
import {
  closeServers,
  descriptors,
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
import { AssociationClient, EchoRelay } from "./fixtures/association-client.ts";
import { DIALOGUES, type Ending, type Verdict } from "./fixtures/dialogue.ts";
import { FAULTS, joined, type Script, type Segment, scripts, TOO_LATE } from "./fixtures/faults.ts";

/** Glued to the reply, and longer than what is read together with it. */
const PAYLOAD = pattern(1, 0, 3000);
const UPLOAD = pattern(0, 0, 500);
/** Turns of the loop that the server waits for the client's next message. */
const PATIENCE = 200;

const relay = new EchoRelay();
beforeAll(() => relay.open());
afterAll(() => relay.close());
afterEach(closeServers);

/** One connection: the script, both ends, and what has to come of it. */
interface Play {
  readonly script: Script;
  readonly verdict: Verdict;
  /** All that the server says. */
  readonly stream: Uint8Array;
  readonly client: Recorder | AssociationClient;
  readonly peer: Peer;
}

/**
 * Says each segment when its turn has come, or when the client keeps it waiting: to the server nothing is wrong. When
 * octets come makes no difference to what they say.
 */
async function speak({ client, peer }: Play, segments: readonly Segment[]): Promise<void> {
  for (const { needs, bytes } of segments) {
    for (let turn = 0; turn < PATIENCE && peer.received.length < needs; turn++) {
      if (client.refusal !== null) break;
      await settle(1);
    }
    if (bytes.length > 0 && peer.fate === "") peer.socket.write(bytes);
  }
}

async function checkStream(play: Play, ending: Ending, requests: number): Promise<void> {
  const client = play.client as Recorder;
  const { stream, verdict, script, peer } = play;
  if (verdict.kind !== "open") {
    expect([script.place, client.events]).toEqual([script.place, ["refused"]]);
    return;
  }
  const behind = Buffer.from(stream.subarray(verdict.taken));
  await until(`the payload (${script.place})`, () => client.octets.length >= behind.length);
  expect(client.octets.equals(behind), script.place).toBe(true);
  if (ending === "silence") {
    client.sendOctets(UPLOAD);
    await until("the upload", () => peer.received.length === requests + UPLOAD.length);
    expect(peer.received.subarray(requests).equals(UPLOAD), script.place).toBe(true);
  } else {
    const told = ending === "close" ? /^end$/ : /^(end|errno \d+)$/;
    await until(`the end (${script.place})`, () => told.test(client.events.at(-1) ?? ""));
  }
}

async function checkAssociation(
  { client, verdict, script }: Play,
  reaches: boolean,
): Promise<void> {
  const { events, received } = client as AssociationClient;
  expect([script.place, events]).toEqual([
    script.place,
    [verdict.kind === "open" ? "open" : "refused"],
  ]);
  if (!reaches || verdict.kind !== "open") return;
  (client as AssociationClient).send(UPLOAD);
  await until(`the echo (${script.place})`, () => received.length > 0);
  expect(received).toEqual([["192.0.2.1:80", Buffer.from(UPLOAD).toString("hex")]]);
}

describe.each(SHAPES)("%s shape", (shape) => {
  const rows = DIALOGUES.flatMap((dialogue) => FAULTS.map((fault) => ({ dialogue, fault })));

  test.each(rows)("$dialogue.name: $fault.name at every octet", async ({ dialogue, fault }) => {
    const messages = dialogue.messages(relay.port);
    const before = descriptors();
    const server = await ScriptedServer.listen();
    const upstream = open(shape, `${dialogue.proxy}127.0.0.1:${server.port}`, {
      pipeline: dialogue.ahead ? "on" : "off",
      lookup: (_name, done) => setImmediate(() => done(["127.0.0.1"])),
    });
    const plays: Play[] = [];
    for (const script of scripts(fault, messages, dialogue.faulty, PAYLOAD)) {
      const client =
        dialogue.command === "CONNECT"
          ? new Recorder().connect(upstream)
          : new AssociationClient(upstream);
      const stream = joined([...script.before, ...script.after]);
      const inTime = fault.wait < TOO_LATE ? stream : joined(script.before);
      const verdict = dialogue.judge(inTime, fault.ending);
      plays.push({ script, verdict, stream, client, peer: await server.accept() });
    }
    expect(plays.length).toBeGreaterThan(0);

    await Promise.all(plays.map((play) => speak(play, play.script.before)));
    await settle();
    if (fault.ending === "close") for (const { peer } of plays) peer.socket.end();
    if (fault.ending === "reset") for (const { peer } of plays) peer.socket.resetAndDestroy();
    pass(fault.wait);
    await settle();
    await Promise.all(plays.map((play) => speak(play, play.script.after)));

    const requests = Buffer.from(messages.map(({ after }) => after).join(""), "hex");
    for (const play of plays) {
      const { client, peer, script, verdict } = play;
      await until(`an outcome (${script.place})`, () => client.events.length > 0);
      const { kind = "open", reply = 0 } = client.refusal ?? {};
      expect([script.place, kind, reply]).toEqual([script.place, verdict.kind, verdict.reply]);
      if (client instanceof Recorder) await checkStream(play, fault.ending, requests.length);
      else await checkAssociation(play, fault.name === "split" || fault.name === "late");
      // What the client said is the beginning of what it should say.
      const said = peer.received.subarray(0, requests.length);
      expect(said.equals(requests.subarray(0, said.length)), script.place).toBe(true);
      if (client instanceof Recorder) client.stream?.close();
      else client.close();
    }
    await Promise.all(plays.map(({ peer }) => peer.gone()));
    upstream.close();
    await closeServers();
    await until("descriptors", () => descriptors() <= before);
    expect(timers.next()).toBe(-1);
  });
});
