/**
 * Names that a list of patterns means (`--dns-real`): a domain with all below it, or a glob.
 *
 * Octets are compared as queries carry them, letters without case (RFC 4343): a name that is not ASCII is there in its
 * "xn--" form. "*" stands for any octets, dots too, and "?" for one.
 */

/** A pattern that was understood. */
export interface NamePattern {
  /** In lower case, one character an octet. */
  readonly text: string;
  readonly isGlob: boolean;
}

/** Null: the text names nothing. Dots at either end do not matter. */
export function parseNamePattern(text: string): NamePattern | null {
  const octets = new TextEncoder().encode(text);
  const name = lowerCase(String.fromCharCode(...octets)).replace(/^\.|\.$/g, "");
  // RFC 1035 §3.1; a name has no empty label, and nobody asks for one with a space.
  if (name.length === 0 || name.length > 253 || /\.\.|[\s/]/.test(name)) return null;
  return { text: name, isGlob: /[*?]/.test(name) };
}

/** True when one of `patterns` means `name`: in lower case, one character an octet, without the last dot. */
export function matchesName(patterns: readonly NamePattern[], name: string): boolean {
  return patterns.some(({ text, isGlob }) => (isGlob ? globs(text, name) : isBelow(name, text)));
}

/** True when `name` is `domain` or below it. */
export function isBelow(name: string, domain: string): boolean {
  if (!name.endsWith(domain)) return false;
  return name.length === domain.length || name[name.length - domain.length - 1] === ".";
}

/** ASCII letters only: others are octets. */
export function lowerCase(octets: string): string {
  return octets.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** True when the glob `pattern` means `name`. Goes back to the last "*" only: bounded by the product of the lengths. */
export function globs(pattern: string, name: string): boolean {
  let at = 0;
  let star = -1;
  let resume = 0;
  for (let i = 0; i < name.length; ) {
    if (
      at < pattern.length &&
      (pattern[at] === "?" || pattern[at] === name[i]) &&
      pattern[at] !== "*"
    ) {
      at++;
      i++;
    } else if (pattern[at] === "*") {
      star = at++;
      resume = i;
    } else if (star >= 0) {
      at = star + 1;
      i = ++resume;
    } else return false;
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
