// How many bytes of the log may be pulled at once, and how many are kept free for what is pulled.

/** Of the budget, this share is kept free for a pull; of a large one, what keeps the wire busy. */
const USUAL_SHARE = 32;
const USUAL_BYTES_MIN = 8 * 1024;
const USUAL_BYTES_MAX = 512 * 1024;
/** While there is room in the window, so many times as much is pulled: a request takes a millisecond, however little it asks for. */
const FACTOR_MAX = 4;
/** The rows of what is pulled need room too. */
const SHARE_OF_ROOM = 2;
const OVERSIZE_DECAY = 0.99;

export class PullBudget {
  readonly usualBytes: number;
  /** Of messages that are larger than a pull should be. */
  private oversizeBytes = 0;

  /** @param budgetBytes of the window */
  constructor(budgetBytes: number) {
    this.usualBytes = Math.max(USUAL_BYTES_MIN, Math.min(USUAL_BYTES_MAX, Math.floor(budgetBytes / USUAL_SHARE)));
  }

  /** What to ask for next. @param roomBytes that nothing else needs */
  nextBytes(roomBytes: number): number {
    return Math.max(this.usualBytes, Math.min(FACTOR_MAX * this.usualBytes, Math.floor(roomBytes / SHARE_OF_ROOM)));
  }

  /** Notes what has come. Where there was a message larger than a pull should be, there will be more for a while. */
  note(messages: readonly { readonly data: Uint8Array }[]): void {
    const largest = messages.reduce((most, { data }) => Math.max(most, data.length), 0);
    this.oversizeBytes = largest > this.usualBytes ? Math.max(largest, this.oversizeBytes) : this.oversizeBytes * OVERSIZE_DECAY;
  }

  /** What to keep free. @param bytes that are held, or may be on their way */
  reserved(bytes: number): number {
    return Math.max(this.usualBytes, this.oversizeBytes, bytes);
  }
}
