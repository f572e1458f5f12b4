// The smallest items seen so far, as many as fit a limit of bytes: what a page of a reply is made of, in bounded memory,
// when the items come in no order.

export interface Sized {
  /** Bytes of the item in the reply. */
  readonly bytes: number;
}

export class Smallest<T extends Sized> {
  private readonly compare: (a: T, b: T) => number;
  private readonly bytesMax: number;
  private items: T[] = [];
  private bytes = 0;
  /** Everything at or above this is left out; null while everything has fitted. */
  private cut: T | null = null;

  constructor(bytesMax: number, compare: (a: T, b: T) => number) {
    this.bytesMax = bytesMax;
    this.compare = compare;
  }

  /** Least item that was left out; null while there is none. */
  get leftOut(): T | null {
    return this.cut;
  }

  add(item: T): void {
    if (this.cut !== null && this.compare(item, this.cut) >= 0) return;
    this.items.push(item);
    this.bytes += item.bytes;
    // Sorting is put off until there is twice as much as fits: then it costs little per item.
    if (this.bytes > 2 * this.bytesMax) this.shrink();
  }

  /** In order. There is more when something was left out; at least one item is always in. */
  take(): { items: T[]; hasMore: boolean } {
    this.shrink();
    return { items: this.items, hasMore: this.cut !== null };
  }

  private shrink(): void {
    this.items.sort(this.compare);
    let bytes = 0;
    let count = 0;
    for (const item of this.items) {
      if (count > 0 && bytes + item.bytes > this.bytesMax) {
        this.cut = item;
        break;
      }
      bytes += item.bytes;
      count++;
    }
    this.items.length = count;
    this.bytes = bytes;
  }
}
