/**
 * Which RFC clauses the sources and the tests name.
 *
 * A test says what it is about at the end of its name, in one bracket: `(RFC 9293 §3.10.7.4 MUST-12, RFC 5961 §4.2)`.
 * A source does it in its comments, in the same words. A clause is a section; steps and letters within it are not
 * told apart.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Clause {
  readonly rfc: number;
  /** `§3.10.7.4`, `REQ-1`, `figure 13`; empty: the document as a whole. */
  readonly section: string;
  /** As the tag says: `MUST-12`, `SHOULD`; empty: it does not say. */
  readonly level: string;
}

export interface Mention extends Clause {
  /** From the root of the repository. */
  readonly file: string;
  /** The test's name without its bracket; empty in a source. */
  readonly test: string;
}

const LEVEL = /(?:MUST|SHLD|SHOULD|MAY|REC)(?: NOT)?(?:-\d+)?/;
const SECTION = /§\w+(?:\.\w+)*|REQ-\d+\w?|figure \d+/;
const DETAIL = /(?:step \d+|R\d|MUST-\d+|\([\w. ]{1,4}\))/;
const ITEM = new RegExp(`(?:${SECTION.source}|${LEVEL.source}|${DETAIL.source})`);
const CITATION = new RegExp(`RFC (\\d+)((?:(?:,| and| or)? ${ITEM.source}(?![\\w-]))*)`, "g");
const TOKEN = new RegExp(`(${SECTION.source})|(${LEVEL.source})`, "g");
/** A string of one line. */
const STRING = /"(?:[^"\\\n]|\\.)*"|`(?:[^`\\\n]|\\.)*`/g;
/** A group whose name is its own; the formatter ends it by `});` below its first letter. */
const DESCRIBE = /^( *)describe\("((?:[^"\\]|\\.)*)"/;
const BRACKET = /^(.*) \(((?:[^()]|\([^()]*\))*\bRFC \d(?:[^()]|\([^()]*\))*)\)$/;

/** The clauses that `text` names, in its order. */
export function clausesOf(text: string): Clause[] {
  const clauses: Clause[] = [];
  for (const [, number, items] of text.matchAll(CITATION)) {
    const rfc = Number(number);
    const found: Clause[] = [];
    for (const [, section, level] of items!.matchAll(TOKEN)) {
      const last = found.at(-1);
      if (section !== undefined) found.push({ rfc, section, level: "" });
      else if (last === undefined) found.push({ rfc, section: "", level: level! });
      else
        found[found.length - 1] = { ...last, level: [last.level, level].filter(Boolean).join(" ") };
    }
    clauses.push(...(found.length > 0 ? found : [{ rfc, section: "", level: "" }]));
  }
  return clauses;
}

/** What the names of the tests in `text` mention, behind those of the `describe`s around them. */
export function testMentions(file: string, text: string): Mention[] {
  const around: { readonly end: string; readonly name: string }[] = [];
  return text.split("\n").flatMap((line) => {
    if (line === around.at(-1)?.end) around.pop();
    const group = DESCRIBE.exec(line);
    const mentions = [...line.matchAll(STRING)].flatMap(([literal]) => {
      const name = BRACKET.exec(literal.slice(1, -1).replaceAll('\\"', '"'));
      if (name === null) return [];
      const test = [...around.map((outer) => outer.name), name[1]!].join(": ");
      return clausesOf(name[2]!).map((clause) => ({ ...clause, file, test }));
    });
    if (group !== null) {
      const [, indentation, name] = group;
      around.push({ end: `${indentation}});`, name: BRACKET.exec(name!)?.[1] ?? name! });
    }
    return mentions;
  });
}

/** What the comments in `text` mention, wrapped or not. */
export function sourceMentions(file: string, text: string): Mention[] {
  const flat = text.replace(/\n\s*(?:\*|\/\/) ?/g, " ");
  return clausesOf(flat).map((clause) => ({ ...clause, file, test: "" }));
}

/** Reads the files below `directory` whose name ends so. */
export function mentions(
  root: string,
  directory: string,
  ending: string,
  read: (file: string, text: string) => Mention[],
): Mention[] {
  const files = readdirSync(join(root, directory), { recursive: true, encoding: "utf8" });
  return files
    .filter((file) => file.endsWith(ending))
    .sort()
    .flatMap((file) =>
      read(`${directory}/${file}`, readFileSync(join(root, directory, file), "utf8")),
    );
}
