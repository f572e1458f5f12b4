// A NATS client that checks nothing: it sends whatever subject, header block and body it is given, and asks for an answer to each.
// The real client would not let most of what is tried here out of the door.

import { connect, type Socket } from 'node:net';

export interface RawReply {
  /** The header block as it came; '' when there is none. */
  readonly headers: string;
  readonly data: Buffer;
}

const INBOX = '_INBOX.raw';

export class RawClient {
  private readonly socket: Socket;
  private readonly waiting = new Map<number, { resolve: (reply: RawReply) => void; reject: (error: Error) => void }>();
  private received: Buffer = Buffer.alloc(0);
  private pending: (Buffer | string)[] = [];
  private isEnded = false;
  private requests = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.onData(chunk));
    socket.on('error', (error) => this.end(error));
    socket.on('close', () => this.end(new Error('the server closed the connection')));
    socket.write('CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}\r\n');
    socket.write(`SUB ${INBOX}.* 1\r\n`);
  }

  static open(port: number): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('error', reject);
      socket.once('connect', () => resolve(new RawClient(socket)));
    });
  }

  get inFlight(): number {
    return this.waiting.size;
  }

  /** Sends a message and resolves with the first answer. @param headers a whole header block; '' for none */
  request(subject: string, headers: string, data: Uint8Array, timeoutMs: number): Promise<RawReply> {
    const number = ++this.requests;
    const head = Buffer.from(headers);
    const sizes = head.length === 0 ? `${data.length}` : `${head.length} ${head.length + data.length}`;
    this.send(`${head.length === 0 ? 'PUB' : 'HPUB'} ${subject} ${INBOX}.${number} ${sizes}\r\n`, head, Buffer.from(data), '\r\n');
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.take(number)?.reject(new Error(`${subject}: no answer within ${timeoutMs} ms`)), timeoutMs);
      this.waiting.set(number, {
        resolve: (reply) => {
          clearTimeout(timer);
          resolve(reply);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  close(): void {
    this.isEnded = true;
    this.socket.destroy();
  }

  private send(...parts: (Buffer | string)[]): void {
    if (this.pending.length === 0) setImmediate(() => this.flush());
    this.pending.push(...parts);
  }

  private flush(): void {
    const parts = this.pending;
    this.pending = [];
    this.socket.write(Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part))));
  }

  private take(number: number) {
    const one = this.waiting.get(number);
    this.waiting.delete(number);
    return one;
  }

  private end(error: Error): void {
    if (this.isEnded) return;
    this.isEnded = true;
    for (const number of [...this.waiting.keys()]) this.take(number)?.reject(error);
  }

  private onData(chunk: Buffer): void {
    let bytes = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk]);
    for (;;) {
      const end = bytes.indexOf('\r\n');
      if (end === -1) break;
      const [verb = '', ...words] = bytes.toString('latin1', 0, end).split(' ');
      if (verb !== 'MSG' && verb !== 'HMSG') {
        if (verb === 'PING') this.send('PONG\r\n');
        if (verb === '-ERR') this.end(new Error(`the server says ${words.join(' ')}`));
        bytes = bytes.subarray(end + 2);
        continue;
      }
      const total = Number(words.at(-1));
      const headBytes = verb === 'HMSG' ? Number(words.at(-2)) : 0;
      const start = end + 2;
      if (bytes.length < start + total + 2) break;
      const headers = bytes.toString('utf8', start, start + headBytes);
      // A copy: what is left of the chunk must not be held by a reply.
      const data = Buffer.from(bytes.subarray(start + headBytes, start + total));
      this.take(Number(words[0]?.slice(INBOX.length + 1)))?.resolve({ headers, data });
      bytes = bytes.subarray(start + total + 2);
    }
    this.received = bytes;
  }
}
