// @ts-check
// All metrics, in the order in which they run.

import { clientCloses, connections, sustained } from "./connections.js";
import { datagrams } from "./datagrams.js";
import { idle } from "./idle.js";
import { keepAlive } from "./keep-alive.js";
import { memory } from "./memory.js";
import { questions } from "./questions.js";
import { start } from "./start.js";
import { tcp } from "./tcp.js";

export const METRICS = [
  tcp,
  connections,
  sustained,
  clientCloses,
  keepAlive,
  datagrams,
  questions,
  idle,
  memory,
  start,
];
