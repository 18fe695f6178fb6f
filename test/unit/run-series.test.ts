/** The curves of a run: bounded, honest means, and the same after a crash. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Observation, Series, type SeriesState } from '../../coordinator/run/series.ts'

const POINTS_MAX = 1_000

function observation(seconds: number, examplesSoFar: number, lossSum = 5): Observation {
  const fixed = { stage: 'train', examples: 10, epoch: 0, correct: 5, staleness: 2, volunteers: 3 }
  return { ...fixed, seconds, examplesSoFar, lossSum }
}

const RUN = { stage: 'train', measure: null, trainMeasure: null }

describe('Series', () => {
  it('gathers updates into a point a second', () => {
    const series = new Series()
    expect(series.observe(observation(0.4, 10, 20))).toBeNull()
    expect(series.observe(observation(0.9, 20, 10))).toBeNull()
    const point = { seconds: 1.5, examples: 30, epoch: 0, loss: 1.5, accuracy: 0.5, examplesPerSecond: 20 }
    expect(series.observe(observation(1.5, 30, 15))).toEqual({ ...point, stage: 'train', staleness: 2, volunteers: 3 })
    expect(series.train).toHaveLength(1)
  })

  it('tells the rate of the last ten seconds: none once nobody contributes, the mean of all while there are fewer', () => {
    const series = new Series()
    expect(series.recentRate(0, 0)).toBe(0)
    for (let i = 1; i <= 10; i++) series.observe(observation(i, 10 * i))
    expect(series.recentRate(100, 10)).toBe(10)
    for (let i = 1; i <= 40; i++) series.observe(observation(10 + i / 4, 100 + 10 * i))
    expect(series.recentRate(500, 20)).toBe(40)
    expect(series.recentRate(500, 25)).toBeCloseTo((500 - 300) / 10)
    expect(series.recentRate(500, 60)).toBe(0)
  })

  it('[G3] holds a bounded number of points, the newest among them, however long the run', () => {
    const series = new Series()
    for (let i = 1; i <= 20_000; i++) {
      const point = series.observe(observation(2 * i, 10 * i, i))
      series.evaluated({ seconds: i, examples: i, epoch: i, version: i, loss: 1, accuracy: 0, ...RUN })
      expect(series.train.length).toBeLessThanOrEqual(POINTS_MAX)
      expect(series.test.length).toBeLessThanOrEqual(POINTS_MAX)
      expect(series.test.at(-1)?.version).toBe(i)
      if (point !== null) expect(series.train.at(-1)?.examples).toBe(point.examples)
    }
    const times = series.train.map(({ seconds }) => seconds)
    expect(times).toEqual([...times].sort((a, b) => a - b))
    expect(series.train.length).toBeGreaterThan(POINTS_MAX / 4)
  })

  it('never mixes the losses of two stages, not even where points are merged', () => {
    const series = new Series()
    for (let i = 1; i <= 2_003; i++) {
      if (i === 502) series.newStage(501)
      series.observe({ ...observation(i, 10 * i, i < 502 ? 1000 : 1), stage: i < 502 ? 'rbm-1' : 'train' })
    }
    expect(series.train.length).toBeLessThanOrEqual(POINTS_MAX)
    const of = (stage: string) => new Set(series.train.filter((point) => point.stage === stage).map(({ loss }) => loss))
    expect([of('rbm-1'), of('train')]).toEqual([new Set([100]), new Set([0.1])])
    const times = series.train.map(({ seconds }) => seconds)
    expect(times).toEqual([...times].sort((a, b) => a - b))

    const short = new Series()
    short.observe({ ...observation(0.5, 10, 1000), stage: 'rbm-1' })
    short.newStage(0.5)
    expect(short.observe({ ...observation(1.2, 20, 1), stage: 'train' })).toBeNull()
    expect(short.observe({ ...observation(1.5, 30, 1), stage: 'train' })).toMatchObject({ stage: 'train', loss: 0.1 })
  })

  it('shows a loss over the last few thousand examples', () => {
    const series = new Series()
    expect(series.recentLoss).toBeNull()
    for (let i = 1; i <= 400; i++) series.observe(observation(i, 10 * i, 30))
    expect(series.recentLoss).toBeCloseTo(3, 9)
    for (let i = 401; i <= 4_000; i++) series.observe(observation(i, 10 * i, 10))
    expect(series.recentLoss).toBeGreaterThan(1)
    expect(series.recentLoss).toBeLessThan(1.01)
  })

  it('[J2] goes on after a crash as if there had been none', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ step: fc.double({ min: 0, max: 3, noNaN: true }), crash: fc.boolean() }), {
          maxLength: 80,
        }),
        (steps) => {
          const whole = new Series()
          let broken = new Series()
          let seconds = 0
          steps.forEach(({ step, crash }, i) => {
            seconds += step
            whole.observe(observation(seconds, 10 * i, seconds))
            if (crash) broken = new Series(JSON.parse(JSON.stringify(broken)) as SeriesState)
            broken.observe(observation(seconds, 10 * i, seconds))
          })
          expect(JSON.stringify(broken)).toBe(JSON.stringify(whole))
        },
      ),
    )
  })
})
