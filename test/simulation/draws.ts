/** The simulator's only source of chance: a row of draws from one seed, each used once, so a seed is a whole story. */
import { Random } from '../../shared/random.ts'

export class Draws {
  private readonly random: Random
  private drawn = 0

  constructor(seed: number, ...path: number[]) {
    this.random = new Random(seed, 0x51, ...path)
  }

  /** [0, 1) */
  uniform(): number {
    return this.random.uniform(this.drawn++)
  }

  /** A whole number, both ends included. */
  whole(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from + 1))
  }

  between(from: number, to: number): number {
    return from + this.uniform() * (to - from)
  }

  /** Evenly spread over the orders of magnitude. */
  magnitude(from: number, to: number): number {
    return from * (to / from) ** this.uniform()
  }

  chance(probability: number): boolean {
    return this.uniform() < probability
  }

  pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.uniform() * choices.length)]
  }
}
