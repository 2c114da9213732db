/** An S3 server behind a proxy that misbehaves on order, as networks and servers do. */

import {
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';

/** `down`: nobody answers. `hangs`: the request is taken and never answered. */
export type Trouble = 'none' | 'down' | 'hangs' | 'fails' | 'throttles' | 'full';

const errors = {
  fails: { status: 500, code: 'InternalError' },
  throttles: { status: 503, code: 'SlowDown' },
  full: { status: 507, code: 'InsufficientStorage' },
} as const;

export class TroubledS3 implements AsyncDisposable {
  readonly port: number;
  readonly #upstream: S3rver;
  readonly #upstreamPort: number;
  readonly #folder: string;
  readonly #proxy: Server;
  #trouble: Trouble = 'none';
  /** Requests that were taken and not answered. */
  readonly #held = new Set<ServerResponse>();

  private constructor(upstream: S3rver, upstreamPort: number, folder: string, proxy: Server) {
    this.#upstream = upstream;
    this.#upstreamPort = upstreamPort;
    this.#folder = folder;
    this.#proxy = proxy;
    this.port = (proxy.address() as AddressInfo).port;
    proxy.on('request', (asked: IncomingMessage, answer: ServerResponse) =>
      this.#serve(asked, answer),
    );
  }

  static async start(): Promise<TroubledS3> {
    const folder = await mkdtemp(join(tmpdir(), 'wharf-s3-'));
    const upstream = new S3rver({ port: 0, address: '127.0.0.1', silent: true, directory: folder });
    const { port } = await upstream.run();
    const proxy = createServer();
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    return new TroubledS3(upstream, port, folder, proxy);
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  set(trouble: Trouble): void {
    this.#trouble = trouble;
    if (trouble === 'down') this.#proxy.closeAllConnections();
    for (const answer of this.#held) answer.destroy();
    this.#held.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.set('down');
    await new Promise((resolve) => this.#proxy.close(resolve));
    await this.#upstream.close();
    await rm(this.#folder, { recursive: true });
  }

  #serve(asked: IncomingMessage, answer: ServerResponse): void {
    const trouble = this.#trouble;
    if (trouble === 'down') asked.socket.destroy();
    else if (trouble === 'hangs') this.#held.add(answer);
    else if (trouble === 'none' || asked.method === 'GET') this.#pass(asked, answer);
    else {
      const { status, code } = errors[trouble];
      asked.resume();
      answer.writeHead(status, { 'content-type': 'application/xml', 'retry-after': '1' });
      answer.end(`<Error><Code>${code}</Code><Message>as ordered</Message></Error>`);
    }
  }

  #pass(asked: IncomingMessage, answer: ServerResponse): void {
    const { method, url: path, headers } = asked;
    const port = this.#upstreamPort;
    const onward = request({ host: '127.0.0.1', port, method, path, headers }, (found) => {
      answer.writeHead(found.statusCode ?? 502, found.headers);
      found.pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    // Nobody takes the rest of an answer to who is gone.
    answer.on('close', () => answer.writableFinished || onward.destroy());
    asked.pipe(onward);
  }
}
