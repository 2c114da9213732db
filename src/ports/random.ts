/** Randomness. Implementations: the system's, and a seeded one. */
export interface Random {
  bytes(count: number): Uint8Array;
  /** 0 inclusive to 1 exclusive. */
  fraction(): number;
}
