// @ts-check
// What a process has used, by /proc: its threads and its descendants (a peer may be a shell script) are counted in.

import { readdirSync, readFileSync } from "node:fs";

/** proc_pid_stat(5): USER_HZ, which is 100 on every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100;

/** @typedef {{ user: number, system: number }} Cpu seconds */

/**
 * Processor time so far.
 *
 * @param {number} pid
 * @returns {Cpu}
 */
export function cpuOf(pid) {
  const sum = { user: 0, system: 0 };
  for (const one of tree(pid)) {
    const text = read(`/proc/${one}/stat`);
    // The name is in parentheses and may hold anything; state is field 3, utime 14, stime 15.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    sum.user += Number(fields[11] ?? 0) / TICKS_PER_SECOND;
    sum.system += Number(fields[12] ?? 0) / TICKS_PER_SECOND;
  }
  return sum;
}

/**
 * Processor time between two readings.
 *
 * @param {Cpu} before
 * @param {Cpu} after
 * @returns {Cpu}
 */
export function cpuBetween(before, after) {
  return { user: after.user - before.user, system: after.system - before.system };
}

/**
 * How often its threads have gone to sleep, which is how often they were woken.
 *
 * @param {number} pid
 */
export function wakeUpsOf(pid) {
  let sum = 0;
  for (const one of tree(pid)) {
    for (const thread of list(`/proc/${one}/task`)) {
      sum += field(read(`/proc/${one}/task/${thread}/status`), "voluntary_ctxt_switches");
    }
  }
  return sum;
}

/**
 * Resident octets: all of it, and what is the process's own (not its program text).
 *
 * @param {number} pid
 */
export function memoryOf(pid) {
  let resident = 0;
  let own = 0;
  for (const one of tree(pid)) {
    const status = read(`/proc/${one}/status`);
    resident += field(status, "VmRSS") * 1024;
    own += (field(status, "RssAnon") + field(status, "RssShmem")) * 1024;
  }
  return { resident, own };
}

/**
 * The process and its descendants.
 *
 * @param {number} pid
 * @returns {number[]}
 */
function tree(pid) {
  const pids = [pid];
  for (const thread of list(`/proc/${pid}/task`)) {
    const children = read(`/proc/${pid}/task/${thread}/children`).trim();
    if (children !== "") for (const child of children.split(" ")) pids.push(...tree(Number(child)));
  }
  return pids;
}

/**
 * @param {string} text
 * @param {string} name
 */
function field(text, name) {
  return Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0);
}

/** A process may end while it is looked at: then there is nothing. @param {string} path */
function read(path) {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** @param {string} path */
function list(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
