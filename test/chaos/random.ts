// Random numbers from a seed (xorshift128, seeded by splitmix32): the same seed draws the same faults in the same order.
// What the processes make of them is real time and differs from run to run.

export class Random {
  private readonly state = new Uint32Array(4);

  constructor(seed: number) {
    let mixed = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      mixed = (mixed + 0x9e3779b9) >>> 0;
      this.state[i] = mix(mixed) | 1;
    }
  }

  /** From 0, below 1. */
  next(): number {
    const { state } = this;
    let t = state[3] as number;
    const s = state[0] as number;
    state[3] = state[2] as number;
    state[2] = state[1] as number;
    state[1] = s;
    t ^= t << 11;
    t ^= t >>> 8;
    state[0] = t ^ s ^ (s >>> 19);
    return (state[0] as number) / 2 ** 32;
  }

  /** Whole number from `min` to `max`, both included. */
  between(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  isTrueIn(share: number): boolean {
    return this.next() < share;
  }

  /** One of the entries, by its weight. */
  weighted<T extends { readonly weight: number }>(entries: readonly T[]): T {
    let left = this.next() * entries.reduce((sum, entry) => sum + entry.weight, 0);
    for (const entry of entries) {
      left -= entry.weight;
      if (left < 0) return entry;
    }
    return entries.at(-1) as T;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const mixed = [...items];
    for (let i = mixed.length - 1; i > 0; i--) {
      const j = this.between(0, i);
      [mixed[i], mixed[j]] = [mixed[j] as T, mixed[i] as T];
    }
    return mixed;
  }
}

/** A number of 32 bits that depends on every bit of the given ones. */
export function mixed(...numbers: readonly number[]): number {
  return numbers.reduce((hash, number) => mix((hash ^ number) + 0x9e3779b9), 0x2545f491);
}

function mix(value: number): number {
  let hash = value >>> 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a2d97);
  return (hash ^ (hash >>> 15)) >>> 0;
}
