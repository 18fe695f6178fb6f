/** The speed that a volunteer shows: examples a second of its time at work, whatever came of it, lately. */
import type { Clock } from './clock.ts'

/** It is a mean over about so much time. */
const OVER_MS = 20_000

export class Speed {
  private readonly clock: Clock
  private examples = 0
  private ms = 0
  /** Work since then is not yet in it. */
  private since = 0

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** Work begins, after time without any. */
  begin(): void {
    this.since = this.clock.now()
  }

  /** So many examples came of the time at work since the last call, or since `begin`; of what came to nothing, none. */
  worked(examples: number): void {
    const ms = this.clock.now() - this.since
    this.since += ms
    if (ms <= 0) return
    const kept = 0.5 ** (ms / OVER_MS)
    // A device that slept for an hour is not slow for an hour.
    const weight = Math.min(1, OVER_MS / ms)
    this.examples = kept * this.examples + weight * examples
    this.ms = kept * this.ms + weight * ms
  }

  /** null before anything was done. */
  get examplesPerSecond(): number | null {
    return this.ms > 0 ? (1000 * this.examples) / this.ms : null
  }
}
