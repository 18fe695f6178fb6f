/** A clock on which waiting takes no time: a sleep moves it on by what was asked, and is written down. */
import type { Clock } from '../../client/volunteer/clock.ts'

export class PromptClock implements Clock {
  readonly slept: number[] = []
  private time = 0

  now(): number {
    return this.time
  }

  advance(ms: number): void {
    this.time += ms
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted()
    this.slept.push(ms)
    this.time += Math.max(0, ms)
    await this.breathe()
    signal?.throwIfAborted()
  }

  breathe(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve))
  }
}
