/**
 * The least that forwarding can cost: a small request from one Node process to another over
 * loopback TCP, and 4 KiB back, one after another. This file is that other process as well.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { percentile } from './report.ts';

const requestBytes = 64;
const answer = Buffer.alloc(4096, 1);

/** Median of one round trip. */
export async function bareRoundTripUs(seconds: number): Promise<number> {
  const server = fork(import.meta.filename);
  try {
    const [port] = (await once(server, 'message')) as [number];
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.setNoDelay(true);
    const samples = await measure(socket, seconds * 1000);
    socket.destroy();
    return percentile(samples, 0.5);
  } finally {
    server.kill('SIGKILL');
    await once(server, 'close');
  }
}

function measure(socket: Socket, measuredMs: number): Promise<number[]> {
  const samples: number[] = [];
  const request = Buffer.alloc(requestBytes);
  const deadline = performance.now() + measuredMs;
  let missing = 0;
  let beganMs = 0;
  const ask = () => {
    missing = answer.length;
    beganMs = performance.now();
    socket.write(request);
  };
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('data', (chunk: Buffer) => {
      missing -= chunk.length;
      if (missing > 0) return;
      const now = performance.now();
      samples.push((now - beganMs) * 1000);
      if (now < deadline) ask();
      else resolve(samples);
    });
    ask();
  });
}

function serve(): void {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.on('data', () => socket.write(answer));
  });
  server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
  process.on('disconnect', () => process.exit());
}

if (process.argv[1] === import.meta.filename) serve();
