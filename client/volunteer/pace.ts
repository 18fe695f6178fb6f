/**
 * A volunteer of a chosen speed: after each minibatch it waits until its mean speed within the lease is at most so many
 * examples a second. Scaling with the number of volunteers is measured with it, on machines that have fewer cores than
 * the measurement has volunteers. The wait counts as time spent computing, so the coordinator sees the paced speed.
 */
import type { Clock } from './clock.ts'

export class Pace {
  private readonly examplesPerSecond: number
  private readonly clock: Clock
  private since = 0
  private examples = 0

  constructor(examplesPerSecond: number, clock: Clock) {
    if (!(examplesPerSecond > 0))
      throw new RangeError(`expected a pace above 0 examples a second, got ${examplesPerSecond}`)
    this.examplesPerSecond = examplesPerSecond
    this.clock = clock
  }

  /** A lease begins: time lost before it (downloads, waiting for work) is not caught up. */
  begin(): void {
    this.since = this.clock.now()
    this.examples = 0
  }

  /** Waits until `count` more examples may have been done. */
  async spend(count: number, signal?: AbortSignal): Promise<void> {
    this.examples += count
    const waitMs = this.since + (1000 * this.examples) / this.examplesPerSecond - this.clock.now()
    if (waitMs > 0) await this.clock.sleep(waitMs, signal)
  }
}
