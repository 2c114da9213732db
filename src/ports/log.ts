/**
 * The log as the floors below the daemon see it: constant messages, facts as fields. A pino logger
 * is one. Alarms are `error`: something an operator must act on.
 */
export interface Log {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
  child(bindings: Readonly<Record<string, unknown>>): Log;
}
