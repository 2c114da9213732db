/**
 * The admin API: JSON over HTTP on the loopback interface. It answers only requests that name it
 * by a loopback address, so that no page in a browser can reach it by a name of its own.
 */

import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ErrorCode } from '../../core/errors.ts';
import { describeError, isStorageError, StorageError } from '../../core/errors.ts';

export type Query = URLSearchParams;
/** Come as they are made, each one line of JSON; an error in the middle is the last line. */
export type Lines = AsyncGenerator<readonly object[]>;
/** Answers with what becomes JSON, or with text. */
export type Endpoint = (query: Query) => Promise<object | string | Lines>;
/** By method and path, as `GET /v1/status`. */
export type Endpoints = Readonly<Record<string, Endpoint>>;

const statusOf: Partial<Record<ErrorCode, number>> = {
  invalid: 400,
  unsupported: 400,
  not_found: 404,
  not_directory: 404,
  too_large: 400,
  name_too_long: 400,
  exists: 409,
  busy: 409,
  read_only: 403,
  unavailable: 503,
};

export interface AdminServer {
  readonly url: string;
  close(): Promise<void>;
}

export async function openAdminServer(port: number, endpoints: Endpoints): Promise<AdminServer> {
  const server = createServer((request, response) => {
    void answer(endpoints, request).then(async ({ status, body }) => {
      if (body instanceof Readable) {
        response.writeHead(status, { 'content-type': 'application/x-ndjson', connection: 'close' });
        // Fails when nobody listens any more.
        return pipeline(body, response).catch(() => {});
      }
      const isText = typeof body === 'string';
      const type = isText ? 'text/plain; version=0.0.4' : 'application/json';
      response.writeHead(status, { 'content-type': type, connection: 'close' });
      response.end(isText ? body : `${JSON.stringify(body)}\n`);
    });
  });
  await listen(server, port);
  const { port: actual } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${actual}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new StorageError('busy', `admin.port ${port} can't be used: ${error.code}`)),
    );
    server.listen(port, '127.0.0.1', resolve);
  });
}

async function answer(
  endpoints: Endpoints,
  request: IncomingMessage,
): Promise<{ status: number; body: object | string | Readable }> {
  const host = request.headers.host?.replace(/:\d+$/, '');
  if (host !== '127.0.0.1' && host !== 'localhost')
    return { status: 403, body: { error: 'only for this machine', code: 'access_denied' } };
  const url = new URL(request.url ?? '/', 'http://127.0.0.1');
  const endpoint = endpoints[`${request.method} ${url.pathname}`];
  if (!endpoint) return { status: 404, body: { error: 'no such endpoint', code: 'not_found' } };
  try {
    const body = await endpoint(url.searchParams);
    return { status: 200, body: isLines(body) ? await begin(body) : body };
  } catch (error) {
    const refusal = describe(error);
    return { status: statusOf[refusal.code] ?? 500, body: refusal };
  }
}

function describe(error: unknown): { readonly error: string; readonly code: ErrorCode } {
  return { error: describeError(error), code: isStorageError(error) ? error.code : 'failed' };
}

function isLines(body: object | string): body is Lines {
  return typeof body === 'object' && Symbol.asyncIterator in body;
}

/** What goes wrong before the first lines is an answer like any other. */
async function begin(lines: Lines): Promise<Readable> {
  const first = await lines.next();
  const text = Readable.from(textOf(first, lines), { objectMode: false });
  // Maybe nobody has read any of it.
  text.once('close', () => void lines.return(undefined).catch(() => {}));
  return text;
}

async function* textOf(
  first: IteratorResult<readonly object[]>,
  lines: Lines,
): AsyncGenerator<string> {
  try {
    for (let next = first; next.done !== true; next = await lines.next())
      yield next.value.map((line) => `${JSON.stringify(line)}\n`).join('');
  } catch (error) {
    yield `${JSON.stringify(describe(error))}\n`;
  }
}
