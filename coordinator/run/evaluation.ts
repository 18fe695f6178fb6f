/**
 * Evaluation: loss and accuracy of one version on the test examples, cut into leases that only trusted volunteers
 * get. One evaluation is under way at a time; it is not durable, a crash just asks for it anew.
 */
import type { TestPoint } from '../../shared/api.ts'
import type { Stretch } from '../strategies/epochs.ts'
import { Intervals } from '../strategies/intervals.ts'

/** Test examples in one lease: short enough that a lost one costs little. */
const PART_EXAMPLES = 2_500

/** Where the run stood when the evaluation was asked for. */
export interface Asked {
  readonly version: number
  readonly seconds: number
  readonly examples: number
  readonly epoch: number
}

interface UnderWay {
  readonly asked: Asked
  readonly free: Intervals
  tested: number
  lossSum: number
  correct: number
}

export class Evaluation {
  private readonly examples: number
  private current: UnderWay | null = null

  /** `examples` in the test split. */
  constructor(examples: number) {
    this.examples = examples
  }

  get version(): number | null {
    return this.current?.asked.version ?? null
  }

  /** There is a part to be granted. */
  get waiting(): boolean {
    return this.current !== null && !this.current.free.empty
  }

  /** Begins to evaluate; an evaluation that is under way goes on instead, and false comes back. */
  request(asked: Asked): boolean {
    if (this.current !== null) return false
    const free = new Intervals([{ from: 0, to: this.examples }])
    this.current = { asked, free, tested: 0, lossSum: 0, correct: 0 }
    return true
  }

  take(): Stretch[] {
    return (this.current?.free.take(PART_EXAMPLES) ?? []).map(({ from, to }) => ({ epoch: 0, from, to }))
  }

  giveBack(version: number, stretches: readonly Stretch[]): void {
    if (this.version !== version) return
    for (const stretch of stretches) this.current!.free.add(stretch)
  }

  /** Adds a part; returns the whole when it is complete. */
  settle(part: { version: number; examples: number; lossSum: number; correct: number }): TestPoint | null {
    const current = this.current
    if (current?.asked.version !== part.version) return null
    current.tested += part.examples
    current.lossSum += part.lossSum
    current.correct += part.correct
    if (current.tested < this.examples) return null
    this.current = null
    return { ...current.asked, loss: current.lossSum / current.tested, accuracy: current.correct / current.tested }
  }
}
