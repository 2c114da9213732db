/**
 * An S3 server as a process of its own: s3rver, with puts that are atomic as those of S3 are. A blob
 * is there as a whole once it is acknowledged, and not before, whenever the process is killed.
 *
 *   store-process.ts ADDRESS PORT FOLDER      says `ready`
 */

import { createHash } from 'node:crypto';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import S3rver from 's3rver';

const [address = '', port = '', folder = ''] = process.argv.slice(2);
const arriving = `${folder}.arriving`;
const directory = folder;
let lastNumber = 0;

await rm(arriving, { recursive: true, force: true });
await mkdir(arriving, { recursive: true });
await mkdir(directory, { recursive: true });
const server = new S3rver({ port: Number(port), address, silent: true, directory });
const { store } = server;

store.putObject = async ({ bucket, key, content, metadata }) => {
  const bytes = content instanceof Uint8Array ? content : Buffer.concat(await all(content));
  const md5 = createHash('md5').update(bytes).digest('hex');
  const path = store.getResourcePath(bucket, key, 'object');
  lastNumber += 1;
  const whole = join(arriving, String(lastNumber));
  await writeFile(whole, bytes);
  await mkdir(dirname(path), { recursive: true });
  await store.putMetadata(bucket, key, metadata, md5);
  await rename(whole, path);
  return { size: bytes.length, md5 };
};

async function all(content: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return parts;
}

await server.run();
process.stdout.write('ready\n');
