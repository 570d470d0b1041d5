/**
 * The configuration file: what is in it, and everything that is wrong with it, each with its place.
 *
 * YAML 1.2, of which JSON is a part. Its shape is schema/config.schema.json; what a value means the parsers of flags and
 * rules say, so that a file and a command line cannot differ. No message holds any part of a proxy URL or a password.
 */

import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { ErrorObject } from "ajv";
import type { Document, Node, Pair, YAMLMap } from "yaml";
import { TunnelError } from "../errors.ts";
import type { Rule } from "../rules/rule.ts";
import { buildRule, NOT_YET, parseRule } from "../rules/rule-text.ts";
import { parseUserFile } from "../socks/credentials.ts";
import { suggestion } from "../suggestion.ts";
import { parseUpstream } from "../upstreams/upstream-url.ts";
import { schemaValidator, yaml } from "./libraries.ts";

/** Octets of a file at most. */
export const MAX_CONFIG_OCTETS: number = 4 << 20;

/** What a file says, as far as it can be understood. */
export interface Config {
  /** Values of flags, by their names without dashes, as they would be written; true for one without a value. */
  readonly settings: ReadonlyMap<string, readonly string[] | boolean>;
  /** Proxy URLs or chains by name, credentials and all. */
  readonly upstreams: ReadonlyMap<string, string>;
  readonly rules: readonly PlacedRule[];
}

export interface PlacedRule {
  readonly rule: Rule;
  readonly line: number;
  readonly column: number;
}

/** Something that is wrong, where: lines and columns are counted from 1. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  /** "what is wrong; what to do" */
  readonly text: string;
}

export interface ReadConfig {
  readonly config: Config;
  /** In the order of the file; none: it can be used. */
  readonly problems: readonly Problem[];
}

/** Tries the value of a flag, throws TunnelError ERR_USAGE for one that it cannot have. */
export type CheckSetting = (flag: string, value: string) => void;

/**
 * Reads the file at `path`.
 *
 * @throws TunnelError ERR_USAGE if it cannot be read, or is longer than {@link MAX_CONFIG_OCTETS}.
 */
export function readConfig(path: string, check: CheckSetting): ReadConfig {
  let text: Buffer;
  try {
    text = readFileSync(path);
  } catch (error) {
    throw new TunnelError("ERR_USAGE", `cannot read ${path}: ${whyUnread(error)}; give a file`);
  }
  if (text.length > MAX_CONFIG_OCTETS) {
    throw new TunnelError(
      "ERR_USAGE",
      `cannot use ${path}: it is longer than ${MAX_CONFIG_OCTETS >> 20} MiB; shorten it`,
    );
  }
  return parseConfig(text.toString("utf8"), dirname(path), check);
}

/** The same of its text; paths in it are seen from `directory`. */
export function parseConfig(text: string, directory: string, check: CheckSetting): ReadConfig {
  const reader = new Reader(text, directory, check);
  reader.read();
  const problems = reader.problems.toSorted((a, b) => a.line - b.line || a.column - b.column);
  return { config: reader, problems };
}

type Path = readonly (string | number)[];

class Reader implements Config {
  readonly settings = new Map<string, readonly string[] | boolean>();
  readonly upstreams = new Map<string, string>();
  readonly rules: PlacedRule[] = [];
  readonly problems: Problem[] = [];
  readonly #directory: string;
  readonly #check: CheckSetting;
  readonly #lines: InstanceType<ReturnType<typeof yaml>["LineCounter"]>;
  readonly #document: Document;
  /** Pointers to what is not as the schema has it: nothing more is said of these. */
  readonly #bad = new Set<string>();

  constructor(text: string, directory: string, check: CheckSetting) {
    const { LineCounter, parseDocument } = yaml();
    this.#directory = directory;
    this.#check = check;
    this.#lines = new LineCounter();
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
  }

  read(): void {
    const { errors, warnings } = this.#document;
    for (const { pos, message } of [...errors, ...warnings])
      this.#report(pos[0], firstLine(message));
    if (errors.length > 0) return;
    let content: unknown;
    try {
      content = this.#document.toJS() ?? {};
    } catch (error) {
      // Too many aliases.
      this.#report(0, firstLine((error as Error).message));
      return;
    }
    this.#validate(content);
    if (this.#bad.has("")) return;
    for (const [key, value] of Object.entries(content as Record<string, unknown>)) {
      if (this.#bad.has(`/${key}`) || key === "$schema") continue;
      if (key === "upstreams") this.#readUpstreams(value as Record<string, WrittenUpstream>);
      else if (key === "rules") this.#readRules(value as WrittenRule[]);
      else this.#readSetting(key, value as Scalar | Scalar[]);
    }
    this.#findUpstreams();
  }

  #validate(content: unknown): void {
    const validate = schemaValidator();
    if (validate(content)) return;
    for (const error of validate.errors ?? []) {
      // Said by the error of the name itself.
      if (error.keyword === "propertyNames") continue;
      const path = pathOf(error);
      const key: string | undefined = error.params["additionalProperty"] ?? error.propertyName;
      // An unknown key of the file spoils nothing but itself.
      const spoilt = error.instancePath === "" && key !== undefined;
      this.#bad.add(spoilt ? `/${key}` : error.instancePath);
      if (error.propertyName !== undefined) this.#bad.add(`${error.instancePath}/${key}`);
      if (key === undefined) this.#reportAt(path, inWords(error));
      else this.#report(this.#keyOffset(path, key), inWords(error));
    }
  }

  #readUpstreams(upstreams: Record<string, WrittenUpstream>): void {
    for (const [name, written] of Object.entries(upstreams)) {
      if (this.#bad.has(`/upstreams/${name}`)) continue;
      const { url, "auth-file": file } = typeof written === "string" ? { url: written } : written;
      const path = ["upstreams", name];
      this.#attempt(typeof written === "string" ? path : [...path, "url"], () => {
        parseUpstream(url);
        this.upstreams.set(name, url);
      });
      if (file === undefined || !this.upstreams.has(name)) continue;
      this.#attempt([...path, "auth-file"], () => {
        this.upstreams.set(name, withCredentials(url, resolve(this.#directory, file)));
      });
    }
  }

  #readRules(rules: readonly WrittenRule[]): void {
    for (const [index, written] of rules.entries()) {
      if (this.#bad.has(`/rules/${index}`)) continue;
      const { line, col: column } = this.#lines.linePos(this.#offset(["rules", index]));
      this.#attempt(["rules", index], () => {
        this.rules.push({ rule: understand(written), line, column });
      });
    }
  }

  #readSetting(key: string, value: Scalar | readonly Scalar[]): void {
    if (typeof value === "boolean") {
      this.settings.set(key, value);
      return;
    }
    const values = [value].flat().map(String);
    for (const [index, text] of values.entries()) {
      this.#attempt(Array.isArray(value) ? [key, index] : [key], () => {
        if (key === "proxy") parseUpstream(text);
        else this.#check(key, text);
      });
    }
    this.settings.set(key, values);
  }

  /** Those that rules name. */
  #findUpstreams(): void {
    for (const { rule, line, column } of this.rules) {
      const { action } = rule;
      if (action.kind !== "proxy" || action.name === null) continue;
      const { name } = action;
      // One that cannot be used is known all the same.
      if (this.upstreams.has(name) || this.#document.hasIn(["upstreams", name])) continue;
      const near = suggestion(name, this.upstreams.keys());
      const remedy = near === null ? "add it under upstreams" : `did you mean ${near}?`;
      this.problems.push({ line, column, text: `no upstream is called ${name}; ${remedy}` });
    }
  }

  #attempt(path: Path, action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error;
      this.#reportAt(path, error.message.replace(/^cannot use (?:--?[\w-]+|the proxy URL): /, ""));
    }
  }

  /** At the value at `path`, named by the last key on the way. */
  #reportAt(path: Path, text: string): void {
    const key = path.findLast((step) => typeof step === "string");
    const isRule = path[0] === "rules" && path.length === 2;
    this.#report(this.#offset(path), key === undefined || isRule ? text : `${key}: ${text}`);
  }

  #report(offset: number, text: string): void {
    const { line, col } = this.#lines.linePos(offset);
    this.problems.push({ line, column: col, text });
  }

  #offset(path: Path): number {
    const node = path.length === 0 ? this.#document.contents : this.#document.getIn(path, true);
    return (node as Node | null | undefined)?.range?.[0] ?? 0;
  }

  #keyOffset(path: Path, key: string): number {
    const map = path.length === 0 ? this.#document.contents : this.#document.getIn(path, true);
    const pairs = (map as YAMLMap | null)?.items ?? [];
    const pair = pairs.find((each) => String((each as Pair<Node>).key) === key);
    return (pair?.key as Node | undefined)?.range?.[0] ?? 0;
  }
}

type Scalar = string | number | boolean;
type WrittenUpstream = string | { readonly url: string; readonly "auth-file"?: string };
type WrittenRule = string | Readonly<Record<string, Scalar | readonly Scalar[]>>;

function understand(written: WrittenRule): Rule {
  if (typeof written === "string") return parseRule(written);
  const { action, ...conditions } = written;
  const texts = Object.entries(conditions).map(
    ([key, values]) => [key, [values].flat().map(String)] as const,
  );
  return buildRule(texts, String(action));
}

/** @throws TunnelError ERR_USAGE or ERR_PROXY_URL that names the file, never what is in it. */
function withCredentials(url: string, file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new TunnelError("ERR_USAGE", `cannot read ${file}: ${whyUnread(error)}; give a file`);
  }
  const [first, ...others] = parseUserFile(text, file);
  if (first === undefined || others.length > 0) {
    throw new TunnelError("ERR_USAGE", `cannot use ${file}: it has several users; leave one`);
  }
  const { hops } = parseUpstream(url);
  if (hops.length > 1) {
    throw new TunnelError(
      "ERR_USAGE",
      "the URL is a chain, whose proxies have a user each; write them in it",
    );
  }
  if (hops[0]?.user !== null) {
    throw new TunnelError("ERR_USAGE", "the URL has a user already; leave one of them out");
  }
  const [user, password] = first.map(encodeURIComponent);
  const [, scheme = "", rest = url] = /^([a-z][a-z0-9+.-]*:\/\/)?(.*)$/is.exec(url.trim()) ?? [];
  return `${scheme}${user}:${password}@${rest}`;
}

function whyUnread(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "this user may not read it";
  if (code === "EISDIR") return "it is a directory";
  return String(code);
}

function pathOf({ instancePath }: ErrorObject): (string | number)[] {
  const steps = instancePath.split("/").slice(1);
  return steps.map((step, at) => {
    const key = step.replaceAll("~1", "/").replaceAll("~0", "~");
    return at > 0 && /^\d+$/.test(key) && steps[0] !== "upstreams" ? Number(key) : key;
  });
}

/** What ajv found, as we say it. */
function inWords(error: ErrorObject): string {
  const { keyword, params, parentSchema, data, message } = error;
  switch (keyword) {
    case "additionalProperties": {
      const key = String(params["additionalProperty"]);
      const known = Object.keys(parentSchema?.["properties"] ?? {}).filter(
        (each) => each !== "$schema",
      );
      if (NOT_YET.includes(key) && error.instancePath.startsWith("/rules/"))
        return `rules by ${key} are not supported yet; leave the rule out`;
      const near = suggestion(key, known);
      return `unknown key ${JSON.stringify(key)}; ${near === null ? `the keys are ${known.join(", ")}` : `did you mean ${near}?`}`;
    }
    case "type": {
      const types = [params["type"] as string | string[]].flat().map((type) => TYPES[type] ?? type);
      return `this is ${typeOf(data)}; write ${orList(types)}`;
    }
    case "enum": {
      const values = params["allowedValues"] as string[];
      const near = typeof data === "string" ? suggestion(data, values) : null;
      const what = typeof data === "object" ? typeOf(data) : JSON.stringify(data);
      return `${what} is not known; ${near === null ? `write one of ${values.join(", ")}` : `did you mean ${near}?`}`;
    }
    case "required":
      return `${params["missingProperty"]} is missing; add it`;
    case "pattern":
      return `${JSON.stringify(error.propertyName ?? data)} is no name of an upstream; use letters, digits, dots, dashes and underscores, at most 63`;
    case "minimum":
    case "maximum":
      return `${data} is out of range; write one from ${parentSchema?.["minimum"]} to ${parentSchema?.["maximum"]}`;
    case "minItems":
      return "the list is empty; write a value, or leave the key out";
    default:
      return `${message}; see schema/config.schema.json`;
  }
}

const TYPES: Readonly<Record<string, string>> = {
  string: "text",
  integer: "a number",
  boolean: "true or false",
  array: "a list",
  object: "a mapping",
};

function typeOf(data: unknown): string {
  if (data === null) return "empty";
  if (Array.isArray(data)) return "a list";
  if (typeof data === "number" && !Number.isInteger(data)) return "no whole number";
  return TYPES[typeof data === "number" ? "integer" : typeof data] ?? typeof data;
}

function orList(words: readonly string[]): string {
  return words.length === 1
    ? String(words[0])
    : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

function firstLine(message: string): string {
  return message.split("\n", 1)[0] as string;
}
