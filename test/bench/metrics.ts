/** What a daemon counts. */

/** The sum of the samples of a metric whose labels include `label`. */
export type Metrics = (name: string, label?: string) => number;

export async function metricsOf(admin: string): Promise<Metrics> {
  return parseMetrics(await (await fetch(`${admin}/metrics`)).text());
}

export function parseMetrics(text: string): Metrics {
  const samples = [...text.matchAll(/^(\w+)(\{[^}]*\})? (\S+)$/gm)];
  return (name, label = '') =>
    samples
      .filter(([, found, labels = '']) => found === name && labels.includes(label))
      .reduce((sum, [, , , value]) => sum + Number(value), 0);
}
