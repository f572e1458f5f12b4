// A TCP proxy on loopback between a service and NATS that can be cut, made to hang, or slowed down.
// Hanging is what a switch that went away does: no bytes, no reset. Slow is a delay and a rate, in both directions.

import { createServer, connect as dial, type Server, type Socket } from 'node:net';

export type Weather = 'fair' | 'cut' | 'hanging' | 'slow';

const SLOW_DELAY_MS = 40;
/** Bytes let through every {@link SLOW_DELAY_MS} in each direction: 800 kB/s. */
const SLOW_BYTES = 32 * 1024;
const PENDING_BYTES_MAX = 1024 * 1024;

interface Pair {
  readonly sockets: readonly [Socket, Socket];
  readonly lanes: readonly [Lane, Lane];
}

export class LossyLink {
  readonly port: number;
  private readonly server: Server;
  private readonly pairs = new Set<Pair>();
  private weather: Weather = 'fair';
  private readonly tick: NodeJS.Timeout;

  private constructor(server: Server, port: number, targetPort: number) {
    this.server = server;
    this.port = port;
    server.on('connection', (socket) => this.accept(socket, targetPort));
    this.tick = setInterval(() => {
      if (this.weather === 'slow') for (const { lanes } of this.pairs) for (const lane of lanes) lane.release(SLOW_BYTES);
    }, SLOW_DELAY_MS);
    this.tick.unref();
  }

  static open(targetPort: number): Promise<LossyLink> {
    return new Promise((resolve, reject) => {
      const server = createServer();
      server.once('error', reject);
      server.listen(0, '127.0.0.1', () => {
        const address = server.address();
        if (typeof address !== 'object' || address === null) reject(new Error('no port'));
        else resolve(new LossyLink(server, address.port, targetPort));
      });
    });
  }

  set(weather: Weather): void {
    this.weather = weather;
    if (weather === 'cut') for (const { sockets } of this.pairs) for (const socket of sockets) socket.resetAndDestroy();
    if (weather === 'fair') for (const { lanes } of this.pairs) for (const lane of lanes) lane.release(Number.POSITIVE_INFINITY);
  }

  async close(): Promise<void> {
    clearInterval(this.tick);
    this.set('cut');
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private accept(client: Socket, targetPort: number): void {
    if (this.weather === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const upstream = dial({ host: '127.0.0.1', port: targetPort });
    const isFair = (): boolean => this.weather === 'fair';
    const pair: Pair = { sockets: [client, upstream], lanes: [new Lane(client, upstream, isFair), new Lane(upstream, client, isFair)] };
    this.pairs.add(pair);
    for (const socket of pair.sockets) {
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.once('close', () => {
        this.pairs.delete(pair);
        for (const other of pair.sockets) other.destroy();
      });
    }
  }
}

/** One direction of a connection, in order. */
class Lane {
  private readonly from: Socket;
  private readonly to: Socket;
  private waiting: Buffer[] = [];
  private waitingBytes = 0;

  constructor(from: Socket, to: Socket, isFair: () => boolean) {
    this.from = from;
    this.to = to;
    from.on('data', (chunk: Buffer) => {
      this.waiting.push(chunk);
      this.waitingBytes += chunk.length;
      if (isFair()) this.release(Number.POSITIVE_INFINITY);
      else if (this.waitingBytes > PENDING_BYTES_MAX) from.pause();
    });
    to.on('drain', () => from.resume());
  }

  release(bytesMax: number): void {
    let left = bytesMax;
    while (left > 0 && this.waiting.length > 0) {
      const chunk = this.waiting[0] as Buffer;
      const piece = chunk.length <= left ? chunk : chunk.subarray(0, left);
      if (piece.length === chunk.length) this.waiting.shift();
      else this.waiting[0] = chunk.subarray(left);
      left -= piece.length;
      this.waitingBytes -= piece.length;
      if (!this.to.destroyed) this.to.write(piece);
    }
    if (this.waitingBytes > PENDING_BYTES_MAX) return;
    if (this.to.writableLength > PENDING_BYTES_MAX) this.from.pause();
    else this.from.resume();
  }
}
