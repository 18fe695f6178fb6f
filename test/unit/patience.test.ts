/** How much longer leases may take after some came to nothing. */
import { describe, expect, it } from 'vitest'
import { Patience, type Tried } from '../../coordinator/run/patience.ts'

/** To a deadline, in the usual time. */
const USUAL_MS = 225_000

const lease = (startedAt: number, patience = 1, more: Partial<Tried> = {}): Tried => ({
  ...{ startedAt, patience, timeBoxed: false, batchSize: 100, examples: 1_000 },
  ...more,
})

describe('patience [L5]', () => {
  it('doubles where a lease came to nothing, up to eight times, and once for all that were granted alike', () => {
    const patience = new Patience()
    for (let i = 0; i < 3; i++) expect(patience.expired(lease(0))).toBe(true)
    expect(patience.times).toBe(2)
    patience.expired(lease(1_000, 2))
    patience.expired(lease(1_000, 1))
    expect(patience.times).toBe(4)
    for (const before of [4, 8]) patience.expired(lease(2_000, before))
    expect(patience.times).toBe(8)
  })

  it('is as it was where others got on since it was started, and not where they did when it was', () => {
    const patience = new Patience()
    patience.settled(lease(0), 1_000, USUAL_MS, 5_000)
    expect(patience.expired(lease(4_999))).toBe(false)
    expect(patience.times).toBe(1)
    expect(patience.expired(lease(5_000))).toBe(true)
    expect(patience.times).toBe(2)
  })

  it('ends when as much is done in the usual time, by less that is done as quickly too', () => {
    for (const [examples, tookMs, times] of [
      [1_000, USUAL_MS, 1],
      [1_000, USUAL_MS + 1, 2],
      [100, USUAL_MS / 10, 1],
      [100, USUAL_MS / 10 + 1, 2],
      [0, 1, 2],
    ]) {
      const patience = new Patience()
      patience.expired(lease(0))
      patience.settled(lease(0), examples, USUAL_MS, tookMs)
      expect([examples, tookMs, patience.times]).toEqual([examples, tookMs, times])
    }
  })

  it('ends by what came to nothing since it last ended, and not by what did before', () => {
    const patience = new Patience()
    patience.expired(lease(0))
    patience.settled(lease(0), 1_000, USUAL_MS, 1_000)
    patience.expired(lease(1_000, 1, { examples: 10 }))
    patience.settled(lease(2_000), 10, USUAL_MS, 2_000 + USUAL_MS)
    expect(patience.times).toBe(1)
  })

  it('ends with a minibatch in the usual time, where a minibatch would have done', () => {
    const patience = new Patience()
    patience.expired(lease(0, 1, { timeBoxed: true, examples: 64_000 }))
    patience.settled(lease(0), 1_500, USUAL_MS, 20_000)
    expect(patience.times).toBe(1)
  })
})
