/** Logs: JSON lines for machines, short lines on a terminal; both to stderr. */

import { pino } from 'pino';
import type { Log } from '../ports/log.ts';

const labels: Readonly<Record<number, string>> = { 30: '', 40: 'warning: ', 50: 'ERROR: ' };

export function makeLog(form: 'json' | 'text', bindings: Readonly<Record<string, unknown>>): Log {
  const level = process.env['WHARF_LOG'] ?? 'info';
  if (form === 'json')
    return pino({ level, base: bindings }, pino.destination({ fd: 2, sync: true }));
  return pino({ level, base: {} }, { write: (line) => process.stderr.write(toText(line)) });
}

function toText(line: string): string {
  const { level, time, msg, ...facts } = JSON.parse(line) as Record<string, unknown>;
  const at = new Date(Number(time)).toISOString().slice(11, 19);
  const rest = Object.entries(facts).map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  return `${at} ${labels[Number(level)] ?? ''}${String(msg)}${rest.join('')}\n`;
}
