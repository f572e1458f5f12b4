import { describe, expect, test } from 'vitest';
import { decodeToken, encodeToken, nameProblem, shardOf, unitHash } from '#shared/contract/series';
import { createSubjects } from '#shared/contract/subjects';

describe('names', () => {
  test('letters, digits, _ and - stay; every other byte becomes =HH', () => {
    expect(encodeToken('web-1_A')).toBe('web-1_A');
    expect(encodeToken('a.b c')).toBe('a=2Eb=20c');
    expect(encodeToken('ü\r\n')).toBe('=C3=BC=0D=0A');
  });

  test('decoding is strict: what encoding would not have written is no name', () => {
    expect(decodeToken('a=2Eb')).toBe('a.b');
    for (const token of ['', '=', '=2', '=2e', '=41', 'a b', '=FF', 'é', 'x'.repeat(256)]) expect(decodeToken(token), token).toBeNull();
  });

  test('a name may be any Unicode without NUL that fits a token', () => {
    expect(nameProblem('postgres@14/main')).toBeNull();
    expect(nameProblem('ü'.repeat(42))).toBeNull();
    expect(nameProblem('')).toBe('is empty');
    expect(nameProblem('a\0b')).toBe('contains NUL');
    expect(nameProblem('\ud800')).toBe('is not valid Unicode');
    expect(nameProblem('x'.repeat(255))).toBeNull();
    expect(nameProblem('x'.repeat(256))).toMatch(/longer than 255/);
    expect(nameProblem('ü'.repeat(43))).toMatch(/longer than 255/);
  });

  test('the hash and the shard of a name are those of the contract', () => {
    expect(unitHash('web-1', 'api')).toMatch(/^[0-9a-f]{16}$/);
    expect(unitHash('a', 'bc')).not.toBe(unitHash('ab', 'c'));
    expect(shardOf('web-1', 1)).toBe(0);
    // FNV-1a of "a" is 0xe40c292c.
    expect(shardOf('a', 1000)).toBe(0xe40c292c % 1000);
  });

  test('subjects: one place, prefix first, host and unit escaped', () => {
    const subjects = createSubjects('spillway');
    expect(subjects.samples(0, 'web 1')).toBe('spillway.samples.0.web=201');
    expect(subjects.hostOfSamples('spillway.samples.0.web=201')).toBe('web 1');
    expect(subjects.hostOfSamples('spillway.samples.0.web 1')).toBeNull();
    expect(subjects.hostOfSamples('other.samples.0.web')).toBeNull();
    expect(subjects.live('a', 'b.c')).toBe('spillway.live.a.b=2Ec');
    expect(subjects.samplesStream(3)).toBe('SPILLWAY_SAMPLES_3');
    expect(() => createSubjects('a.b')).toThrow(/prefix/);
  });
});
