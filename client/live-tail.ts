// Live samples as an async iterable with a bounded buffer. A subscription of the bus grows without limit when nobody reads
// it; here the oldest sample makes room for the newest and is counted, because whoever watches wants to see now.

import type { Sample } from '#shared/contract/row';

export class LiveTail implements AsyncIterable<Sample> {
  private readonly samplesMax: number;
  private readonly onStop: () => void;
  private buffer: Sample[] = [];
  private wake: (() => void) | null = null;
  private isStopped = false;
  private droppedSamples = 0;
  private unreadableMessages = 0;

  /** @param onStop called once, when the reader is done */
  constructor(samplesMax: number, onStop: () => void) {
    this.samplesMax = samplesMax;
    this.onStop = onStop;
  }

  /** Samples dropped because they were not read in time. */
  get dropped(): number {
    return this.droppedSamples;
  }

  /** Messages on the subjects that were not samples. */
  get unreadable(): number {
    return this.unreadableMessages;
  }

  /** Takes one message of a live subject; anybody may publish there. */
  push(data: Uint8Array): void {
    if (this.isStopped) return;
    const sample = parseSample(data);
    if (sample === null) {
      this.unreadableMessages++;
      return;
    }
    if (this.buffer.length >= this.samplesMax) {
      this.buffer.shift();
      this.droppedSamples++;
    }
    this.buffer.push(sample);
    this.wake?.();
  }

  /** Ends the iteration after what is buffered. */
  stop(): void {
    if (this.isStopped) return;
    this.isStopped = true;
    this.onStop();
    this.wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Sample, void, undefined> {
    try {
      for (;;) {
        const ready = this.buffer;
        this.buffer = [];
        yield* ready;
        if (this.buffer.length > 0) continue;
        if (this.isStopped) return;
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
        this.wake = null;
      }
    } finally {
      this.stop();
    }
  }
}

const decoder = new TextDecoder();

function parseSample(data: Uint8Array): Sample | null {
  try {
    const sample = JSON.parse(decoder.decode(data)) as Partial<Sample> | null;
    const isSample = typeof sample?.host === 'string' && typeof sample.unit === 'string' && typeof sample.ts === 'number';
    return isSample ? (sample as Sample) : null;
  } catch {
    return null;
  }
}
