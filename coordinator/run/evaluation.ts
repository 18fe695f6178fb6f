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

/** What a lease found on its part of the test examples. */
export interface Part {
  readonly version: number
  readonly examples: number
  readonly lossSum: number
  readonly correct: number
}

interface UnderWay {
  readonly asked: Asked
  readonly free: Intervals
  /** By lease, in the order they came. */
  readonly parts: Map<string, Part>
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
    this.current = { asked, free, parts: new Map() }
    return true
  }

  take(): Stretch[] {
    return (this.current?.free.take(PART_EXAMPLES) ?? []).map(({ from, to }) => ({ epoch: 0, from, to }))
  }

  giveBack(version: number, stretches: readonly Stretch[]): void {
    if (this.version !== version) return
    for (const stretch of stretches) this.current!.free.add(stretch)
  }

  /** Adds what a lease found; returns the whole when nothing lacks. It stays under way until it is journalled: `end`. */
  add(lease: string, part: Part): TestPoint | null {
    if (this.current?.asked.version !== part.version) return null
    const { asked, parts } = this.current
    parts.set(lease, part)
    const whole = { tested: 0, lossSum: 0, correct: 0 }
    for (const { examples, lossSum, correct } of parts.values()) {
      whole.tested += examples
      whole.lossSum += lossSum
      whole.correct += correct
    }
    if (whole.tested < this.examples) return null
    return { ...asked, loss: whole.lossSum / whole.tested, accuracy: whole.correct / whole.tested }
  }

  /** The journal could not be written: the lease will send its part again, or lose it. */
  remove(lease: string): void {
    this.current?.parts.delete(lease)
  }

  /** The whole is in the journal. */
  end(): void {
    this.current = null
  }
}
