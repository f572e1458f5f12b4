// The identity of a series: one unit on one host, under one stable name.

import { createHash } from 'node:crypto';

export interface SeriesKey {
  readonly host: string;
  readonly unit: string;
}

/** First 16 hex digits of sha256(`host` + NUL + `unit`). A name never contains NUL, so two keys never collide by concatenation. */
export function unitHash(host: string, unit: string): string {
  return createHash('sha256').update(`${host}\0${unit}`).digest('hex').slice(0, 16);
}

/** Key for maps. NUL cannot occur in a name. */
export function seriesKey(host: string, unit: string): string {
  return `${host}\0${unit}`;
}

/** Longest encoded token, in bytes: a control line on the bus is limited to 4096 for subject and reply together. */
export const TOKEN_BYTES_MAX = 255;

const LITERAL = /^[A-Za-z0-9_-]*$/;
const encoder = new TextEncoder();

/**
 * Why a string cannot be the name of a host or unit, or null when it can.
 * Names are hostile input: anything that is valid Unicode without NUL is allowed, up to 255 bytes once encoded.
 */
export function nameProblem(name: string): string | null {
  if (name.length === 0) return 'is empty';
  if (name.length <= TOKEN_BYTES_MAX && LITERAL.test(name)) return null;
  if (name.includes('\0')) return 'contains NUL';
  if (!name.isWellFormed()) return 'is not valid Unicode';
  if (name.length > TOKEN_BYTES_MAX || encodeToken(name).length > TOKEN_BYTES_MAX) {
    return `is longer than ${TOKEN_BYTES_MAX} bytes as a subject token`;
  }
  return null;
}

/** Encodes a name as a subject token: `[A-Za-z0-9_-]` as they are, every other byte of the UTF-8 form as `=HH`. */
export function encodeToken(name: string): string {
  if (LITERAL.test(name)) return name;
  let token = '';
  for (const byte of encoder.encode(name)) {
    const char = String.fromCharCode(byte);
    token += byte < 0x80 && LITERAL.test(char) ? char : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return token;
}

/** Strict inverse of {@link encodeToken}: null for any token that encoding would not have produced. */
export function decodeToken(token: string): string | null {
  if (token.length === 0 || token.length > TOKEN_BYTES_MAX) return null;
  if (LITERAL.test(token)) return token;
  const bytes: number[] = [];
  for (let i = 0; i < token.length; i++) {
    const char = token.charAt(i);
    if (char === '=') {
      const hex = token.slice(i + 1, i + 3);
      if (!/^[0-9A-F]{2}$/.test(hex)) return null;
      bytes.push(Number.parseInt(hex, 16));
      i += 2;
    } else {
      if (!LITERAL.test(char)) return null;
      bytes.push(char.charCodeAt(0));
    }
  }
  try {
    const name = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
    return encodeToken(name) === token ? name : null;
  } catch {
    return null;
  }
}

/** The shard that keeps a host: `fnv1a32(host) mod shards`. */
export function shardOf(host: string, shards: number): number {
  return fnv1a32(host) % shards;
}

function fnv1a32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of encoder.encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
