/**
 * Certificates for tests, in a folder of their own, valid for two days: `ca` signs those that are
 * asked for by name.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './servers.ts';

const keyKind = ['-newkey', 'rsa:2048', '-nodes'];
const validDays = 2;

export class Certificates implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'wharf-tls-'));

  static async make(...names: readonly string[]): Promise<Certificates> {
    const made = new Certificates();
    try {
      await made.makeCa('ca');
      for (const name of names) await made.makeCertificate(name);
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  at(file: string): string {
    return join(this.folder, file);
  }

  read(file: string): Buffer {
    return readFileSync(this.at(file));
  }

  /** What a host has: its certificate, and whom it believes. */
  of(name: string, ca = 'ca') {
    return {
      cert: this.read(`${name}.crt`),
      key: this.read(`${name}.key`),
      ca: this.read(`${ca}.crt`),
    };
  }

  async makeCa(name: string): Promise<void> {
    await run('openssl', [
      ...['req', '-x509', ...keyKind, '-days', `${validDays}`, '-subj', `/CN=${name}`],
      ...['-keyout', this.at(`${name}.key`), '-out', this.at(`${name}.crt`)],
    ]);
  }

  /** Good for 127.0.0.1; for no days: over at once. */
  async makeCertificate(name: string, ca = 'ca', days = validDays): Promise<void> {
    await run('openssl', [
      ...['req', ...keyKind, '-subj', `/CN=${name}`],
      ...['-keyout', this.at(`${name}.key`), '-out', this.at(`${name}.csr`)],
    ]);
    writeFileSync(this.at('extension'), 'subjectAltName=IP:127.0.0.1\n');
    await run('openssl', [
      ...['x509', '-req', '-in', this.at(`${name}.csr`), '-extfile', this.at('extension')],
      ...['-CA', this.at(`${ca}.crt`), '-CAkey', this.at(`${ca}.key`), '-CAcreateserial'],
      ...['-days', `${days}`, '-out', this.at(`${name}.crt`)],
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
