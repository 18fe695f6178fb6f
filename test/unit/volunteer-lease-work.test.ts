/** One lease on a volunteer: its minibatches, its time box, what it reports. */
import { describe, expect, test } from 'vitest'
import { backoffMs } from '../../client/volunteer/backoff.ts'
import type { Minibatch, Trainer } from '../../client/volunteer/compute/engine.ts'
import type { Examples } from '../../client/volunteer/examples.ts'
import { computeLease } from '../../client/volunteer/lease-work.ts'
import { Pace } from '../../client/volunteer/pace.ts'
import { PromptClock } from '../support/prompt-clock.ts'

const never = new AbortController().signal

/** `count` minibatches of 10 examples and a last one of 3. */
function examplesOf(count: number): Examples {
  const minibatch = (count: number): Minibatch => {
    return { inputs: new Float32Array(count), labels: new Uint8Array(count), keys: new Uint32Array(2 * count), count }
  }
  return {
    *minibatches(): Generator<Minibatch> {
      for (let i = 0; i < count; i++) yield minibatch(10)
      yield minibatch(3)
    },
  } as unknown as Examples
}

/**
 * A device whose steps take `stepMs`. An asynchronous one returns from a step at once and is done later; the clock
 * moves on while it is awaited.
 */
function device(clock: PromptClock, stepMs: number, asynchronous: boolean) {
  let busyUntil = 0
  const most = { unsettledMs: 0, unsettled: 0 }
  let unsettled = 0
  const work = () => {
    busyUntil = Math.max(busyUntil, clock.now()) + stepMs
    unsettled++
    most.unsettled = Math.max(most.unsettled, unsettled)
    most.unsettledMs = Math.max(most.unsettledMs, busyUntil - clock.now())
    if (!asynchronous) settle()
  }
  const settle = () => {
    clock.advance(Math.max(0, busyUntil - clock.now()))
    unsettled = 0
  }
  const trainer: Trainer = {
    begin() {},
    step: work,
    evaluate: work,
    async settled() {
      settle()
    },
    async finish() {
      settle()
      return { gradient: new Float32Array(1), lossSum: 1.5, correct: 2, measureSum: 0.5, outcomes: null }
    },
    replica: async () => new Float32Array(1),
    dispose() {},
  }
  return { trainer, most }
}

const compute = (clock: PromptClock, trainer: Trainer, budgetMs: number, count: number, pace: Pace | null = null) =>
  computeLease(
    { kind: 'gradient', budgetMs, reduce: 'mean', compensated: false },
    { localRate: 0 },
    trainer,
    new Float32Array(1),
    examplesOf(count),
    clock,
    pace,
    never,
  )

describe('computing a lease', () => {
  test('does every minibatch when the time box is large, and says how many', async () => {
    const clock = new PromptClock()
    const result = await compute(clock, device(clock, 7, false).trainer, 1e9, 20)
    expect(result).toMatchObject({
      ...{ minibatches: 21, examples: 203, computeMs: 21 * 7 },
      ...{ lossSum: 1.5, correct: 2, measureSum: 0.5 },
    })
  })

  test('[L4] begins no minibatch once the time box is full', async () => {
    const clock = new PromptClock()
    // At 0, 7, …, 98 there is time left, at 105 there is none.
    const result = await compute(clock, device(clock, 7, false).trainer, 100, 200)
    expect(result).toMatchObject({ minibatches: 15, examples: 150, computeMs: 105 })
  })

  test('[L4] does one minibatch in the smallest time box', async () => {
    const clock = new PromptClock()
    expect(await compute(clock, device(clock, 500, false).trainer, 0, 5)).toMatchObject({
      minibatches: 1,
      computeMs: 500,
    })
  })

  test.each([1, 5, 30, 400])(
    'keeps an asynchronous device of %i ms a step in its time box, with little under way',
    async (stepMs) => {
      const clock = new PromptClock()
      const { trainer, most } = device(clock, stepMs, true)
      const result = await compute(clock, trainer, 2_000, 100_000)
      expect(result.computeMs).toBe(result.minibatches * stepMs)
      expect(result.computeMs).toBeGreaterThanOrEqual(2_000)
      expect(result.computeMs).toBeLessThan(2_000 + stepMs)
      expect(most.unsettledMs).toBeLessThanOrEqual(Math.max(stepMs, 100))
      expect(most.unsettled).toBeLessThanOrEqual(64)
    },
  )

  test('an evaluation counts examples and no minibatches', async () => {
    const clock = new PromptClock()
    const { trainer } = device(clock, 7, false)
    const lease = { kind: 'evaluate', budgetMs: 1e9, reduce: 'mean', compensated: false } as const
    const result = await computeLease(
      lease,
      { localRate: 0 },
      trainer,
      new Float32Array(1),
      examplesOf(3),
      clock,
      null,
      never,
    )
    expect(result).toMatchObject({ minibatches: 0, examples: 33 })
  })

  test('of no example at all is a gradient of zeros', async () => {
    const clock = new PromptClock()
    const { trainer } = device(clock, 7, false)
    const none = { gradient: null, lossSum: 0, correct: 0, measureSum: 0, outcomes: null }
    const examples = { *minibatches() {} } as unknown as Examples
    const lease = { kind: 'gradient', budgetMs: 1e9, reduce: 'sum', compensated: false } as const
    const idle: Trainer = { ...trainer, finish: async () => none }
    const floats = new Float32Array(3)
    const result = await computeLease(lease, { localRate: 0 }, idle, floats, examples, clock, null, never)
    expect(result).toMatchObject({ minibatches: 0, examples: 0, gradient: new Float32Array(3) })
    const both = { ...lease, compensated: true }
    const two = await computeLease(both, { localRate: 0 }, idle, floats, examples, clock, null, never)
    expect(two.gradient).toEqual(new Float32Array(6))
  })

  test.each([
    ['mean', [1, 1, 1]],
    ['sum', [10, 10, 3]],
  ] as const)('weighs minibatches as the lease says: %s', async (reduce, expected) => {
    const clock = new PromptClock()
    const { trainer } = device(clock, 7, false)
    const weights: number[] = []
    const step: Trainer['step'] = (_, { weight }) => weights.push(weight)
    const lease = { kind: 'gradient', budgetMs: 1e9, reduce, compensated: false } as const
    const parameters = new Float32Array(1)
    await computeLease(lease, { localRate: 0 }, { ...trainer, step }, parameters, examplesOf(2), clock, null, never)
    expect(weights).toEqual(expected)
  })

  test('ends within a minibatch when the volunteer stops', async () => {
    const clock = new PromptClock()
    const stopping = new AbortController()
    const { trainer } = device(clock, 7, false)
    let steps = 0
    const step: Trainer['step'] = (...minibatch) => {
      trainer.step(...minibatch)
      if (++steps === 4) stopping.abort(new Error('stopped'))
    }
    const lease = { kind: 'gradient', budgetMs: 1e9, reduce: 'mean', compensated: false } as const
    await expect(
      computeLease(
        lease,
        { localRate: 0 },
        { ...trainer, step },
        new Float32Array(1),
        examplesOf(50),
        clock,
        null,
        stopping.signal,
      ),
    ).rejects.toThrow('stopped')
    expect(steps).toBe(4)
  })
})

describe('a pace', () => {
  test('makes the mean speed of a lease what was asked, and the coordinator sees it', async () => {
    const clock = new PromptClock()
    // 10 examples in 7 ms would be 1429 a second.
    const result = await compute(clock, device(clock, 7, false).trainer, 1e9, 20, new Pace(100, clock))
    expect(result.examples).toBe(203)
    expect(result.computeMs).toBeCloseTo(2030, 6)
  })

  test('holds for the time box: the wait counts', async () => {
    const clock = new PromptClock()
    const result = await compute(clock, device(clock, 7, false).trainer, 1_000, 200, new Pace(100, clock))
    expect(result).toMatchObject({ minibatches: 10, examples: 100 })
    expect(result.computeMs).toBeCloseTo(1_000, 6)
  })

  test('is no help to a device that is slower', async () => {
    const clock = new PromptClock()
    const result = await compute(clock, device(clock, 200, false).trainer, 1e9, 4, new Pace(100, clock))
    expect(result.computeMs).toBe(1_000)
    expect(clock.slept).toEqual([])
  })

  test('makes up for a slow minibatch within the lease, and for nothing before it', async () => {
    const clock = new PromptClock()
    const pace = new Pace(100, clock)
    clock.advance(60_000)
    pace.begin()
    clock.advance(150)
    await pace.spend(10)
    expect(clock.now()).toBe(60_150)
    await pace.spend(10)
    expect(clock.now()).toBe(60_200)
  })

  test('of nothing is refused', () => {
    expect(() => new Pace(0, new PromptClock())).toThrow(RangeError)
  })
})

describe('the back-off', () => {
  test('doubles from half a second to half a minute, half of it at random', () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7, 50].map((attempt) => backoffMs(attempt, 1))).toEqual([
      500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000,
    ])
    expect([0, 1, 50].map((attempt) => backoffMs(attempt, 0))).toEqual([250, 500, 15000])
  })
})
