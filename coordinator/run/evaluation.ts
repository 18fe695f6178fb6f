/**
 * Evaluation: the objective's sums at one version over the test examples (and of an RBM over as many training examples,
 * whose free energy is compared), cut into leases that only trusted volunteers get. One evaluation is under way at a
 * time; it is not durable, a crash just asks for it anew.
 */
import type { TestPoint } from '../../shared/api.ts'
import { Outcomes } from '../../shared/outcomes.ts'
import type { Stretch } from '../strategies/epochs.ts'
import { type Interval, Intervals } from '../strategies/intervals.ts'

/** Examples in one lease at most. */
const PART_EXAMPLES = 2_500

/** What is looked at: the test examples, or the first training examples for comparison. */
export type Side = 'test' | 'train'

/** Where the run stood when the evaluation was asked for. */
export type Asked = Pick<TestPoint, 'version' | 'stage' | 'seconds' | 'examples' | 'epoch'>

/** What a lease found on its part. */
export interface Part {
  readonly version: number
  readonly side: Side
  readonly stretches: readonly Stretch[]
  readonly examples: number
  readonly lossSum: number
  readonly correct: number
  readonly measureSum: number | null
  /** Of a classifier, see outcomes.ts. */
  readonly outcomes: Uint8Array | null
}

export interface Whole {
  readonly point: TestPoint
  /** Of every test example, as in a part. */
  readonly outcomes: Uint8Array | null
}

interface UnderWay {
  readonly asked: Asked
  readonly free: Record<Side, Intervals>
  /** By lease, in the order they came. */
  readonly parts: Map<string, Part>
}

export class Evaluation {
  private readonly examples: Record<Side, number>
  private current: UnderWay | null = null

  /** Examples to be looked at on each side. */
  constructor(examples: Record<Side, number>) {
    this.examples = examples
  }

  get version(): number | null {
    return this.current?.asked.version ?? null
  }

  /** There is a part to be granted. */
  get waiting(): boolean {
    return this.current !== null && !(this.current.free.test.empty && this.current.free.train.empty)
  }

  /** Begins to evaluate; an evaluation that is under way goes on instead, and false comes back. */
  request(asked: Asked): boolean {
    if (this.current !== null) return false
    const whole = (side: Side) => new Intervals([{ from: 0, to: this.examples[side] }])
    this.current = { asked, free: { test: whole('test'), train: whole('train') }, parts: new Map() }
    return true
  }

  take(examples: number): { side: Side; stretches: Stretch[] } | null {
    for (const side of ['test', 'train'] as const) {
      const taken = this.current?.free[side].take(Math.min(PART_EXAMPLES, examples)) ?? []
      if (taken.length > 0) return { side, stretches: taken.map((interval) => ({ epoch: 0, ...interval })) }
    }
    return null
  }

  giveBack(version: number, side: Side, stretches: readonly Interval[]): void {
    if (this.version !== version) return
    for (const { from, to } of stretches) this.current!.free[side].add({ from, to })
  }

  /**
   * Adds what a lease found; returns the whole when nothing lacks. It stays under way until it is journalled: `end`.
   */
  add(lease: string, part: Part): Whole | null {
    if (this.current?.asked.version !== part.version) return null
    const { asked, parts } = this.current
    parts.set(lease, part)
    const test = sums(parts, 'test')
    const train = sums(parts, 'train')
    if (test.examples < this.examples.test || train.examples < this.examples.train) return null
    const point: TestPoint = {
      ...asked,
      loss: test.lossSum / test.examples,
      accuracy: test.correct / test.examples,
      measure: test.measureSum === null ? null : test.measureSum / test.examples,
      trainMeasure: train.measureSum === null || train.examples === 0 ? null : train.measureSum / train.examples,
    }
    return { point, outcomes: outcomesOf(parts, this.examples.test) }
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

function sums(parts: ReadonlyMap<string, Part>, side: Side) {
  const whole = { examples: 0, lossSum: 0, correct: 0, measureSum: null as number | null }
  for (const part of parts.values()) {
    if (part.side !== side) continue
    whole.examples += part.examples
    whole.lossSum += part.lossSum
    whole.correct += part.correct
    if (part.measureSum !== null) whole.measureSum = (whole.measureSum ?? 0) + part.measureSum
  }
  return whole
}

/** The test parts' outcomes joined in the examples' order. */
function outcomesOf(parts: ReadonlyMap<string, Part>, examples: number): Uint8Array | null {
  const joined = Outcomes.of(examples)
  for (const { side, stretches, outcomes } of parts.values()) {
    if (side !== 'test') continue
    if (outcomes === null) return null
    const found = new Outcomes(outcomes)
    let read = 0
    for (const { from, to } of stretches) {
      for (let example = from; example < to; example++, read++) {
        joined.set(example, found.classOf(read), found.lossOf(read))
      }
    }
  }
  return joined.bytes
}
