/** An HTTP server that says what a test tells it to, where an S3 server would answer. */

import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { S3Backend } from '../../src/backend/s3-backend.ts';

export interface Asked {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The connection is cut behind this many bytes of the body. */
  readonly cutAt?: number;
}

/** What servers put into the body of an error. */
export function refusal(status: number, code: string, headers = {}): Answer {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`;
  return { status, headers: { 'content-type': 'application/xml', ...headers }, body };
}

export async function scriptedS3(answer: (asked: Asked) => Answer) {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      const seen = { method, url, headers, body: Buffer.concat(chunks) };
      asked.push(seen);
      const { status, body = '', cutAt, ...rest } = answer(seen);
      response.writeHead(status, { 'content-length': String(body.length), ...rest.headers });
      if (cutAt === undefined) response.end(body);
      else response.write(body.slice(0, cutAt), () => response.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const backend = S3Backend.open({
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    requestsMax: 8,
    credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
  });
  return {
    backend,
    endpoint: `http://127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      await backend.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
