/** Changes of JSON documents and of lines that leave them what they are: parsers let them pass. */

import type { Chance } from './chance.ts';

const odd: readonly unknown[] = [
  ...[null, true, 0, -1, 1.5, 2 ** 32, 2 ** 53, 1e300, '', ' ', '\0', '/', '..', '-5', '1e3', 'x'],
  ...['__proto__', 'constructor', '0'.repeat(32), '9'.repeat(20), 'é'.repeat(300), '\ud800'],
  ...[[], [null], {}, { a: [] }, [[]]],
];

interface Slot {
  readonly holder: Record<string, unknown>;
  readonly key: string;
}

function slotsOf(value: unknown): Slot[] {
  if (typeof value !== 'object' || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...slotsOf(holder[key])]);
}

function changeSlot({ holder, key }: Slot, chance: Chance, others: readonly Slot[]): void {
  const other = others.length > 0 ? chance.pick(others) : { holder, key };
  const taken = structuredClone(other.holder[other.key]);
  switch (chance.below(6)) {
    case 0:
      return Array.isArray(holder) ? void holder.splice(Number(key), 1) : void delete holder[key];
    case 1:
      return void (holder[key] = taken);
    case 2:
      return void (Array.isArray(holder) ? holder.push(taken) : (holder[other.key] = taken));
    case 3:
      return void (holder[key] = chance.once(2) ? [holder[key]] : { [key]: holder[key] });
    default: {
      const isNear = typeof holder[key] === 'number' && chance.once(2);
      holder[key] = isNear
        ? Number(holder[key]) + chance.below(9) - 4
        : structuredClone(chance.pick(odd));
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Undefined for what is no document. */
export function mutateJson(text: string, chance: Chance, other: string): string | undefined {
  const document = { root: parse(text) };
  if (document.root === undefined) return undefined;
  const others = slotsOf(parse(other));
  do {
    const [root, ...slots] = slotsOf(document);
    const slot = slots.length > 0 ? chance.pick(slots) : root;
    if (slot) changeSlot(slot, chance, others);
  } while (chance.once(3));
  const written = JSON.stringify(document.root) ?? '';
  // A key that no object literal can have.
  return chance.once(30) ? written.replace(/"\w+":/, '"__proto__":') : written;
}

const values = [
  ...['', '~', '[]', '{}', '-1', '0', '.nan', '.inf', '1e999', '0x10', '1_000', '999999999TiB'],
  ...['1constructor', '5s', '4KiB', '&a [*a]', '*a', '!!binary AAAA', '!!set {x}', '"', '|', '>-'],
  ...['? a', '{<<: *a}', '2001-01-01', '/', '/../..', 'true', 'null', '&a', '!!js/function x'],
];

export function mutateLines(text: string, chance: Chance, other: string): string {
  let lines = text.split('\n');
  const others = other.split('\n');
  do {
    const at = chance.below(lines.length);
    const line = lines[at] as string;
    switch (chance.below(7)) {
      case 0:
        lines.splice(at, 1 + chance.below(3));
        break;
      case 1:
        lines.splice(chance.below(lines.length + 1), 0, line);
        break;
      case 2:
        lines.splice(at, 0, chance.pick(others));
        break;
      case 3:
        lines[at] = chance.once(2) ? `  ${line}` : line.replace(/^ {2}/, '');
        break;
      case 4:
        lines = [...lines.slice(0, at), ...others.slice(chance.below(others.length))];
        break;
      default:
        lines[at] = `${line.split(':')[0] ?? ''}: ${chance.pick(values)}`;
    }
    if (lines.length === 0) lines = [''];
  } while (chance.once(2));
  return lines.join('\n');
}
