/** Words of others in lines of ours: arguments, file names, what certificates and servers say. */

/** `text` on one line; what may steer a terminal is blanks. */
export function oneLine(text: string): string {
  return text.replace(/[\s\p{Cc}]+/gu, " ");
}
