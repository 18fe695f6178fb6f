/** Trust: what is checked of an update's numbers before they are believed. */
import { describe, expect, it } from 'vitest'
import { Trust } from '../../coordinator/run/trust.ts'

const codeOf = (trust: Trust, norm: number, minibatches = 1, volunteer = 'ann') =>
  trust.judge(volunteer, norm * norm, minibatches)?.code ?? null

/** So many updates of this norm, by volunteers in turn. */
function accept(trust: Trust, count: number, norm: number, volunteers = ['ann', 'bob', 'cleo']): void {
  for (let i = 0; i < count; i++) trust.accepted(volunteers[i % volunteers.length], norm * norm, 1)
}

describe('Trust', () => {
  it('[T2] refuses what is not finite', () => {
    const trust = new Trust()
    for (const sum of [Number.NaN, Number.POSITIVE_INFINITY])
      expect(trust.judge('ann', sum, 1)?.code).toBe('non-finite')
    expect(trust.judge('ann', 0, 1)).toBeNull()
  })

  it('[T2] before it knows anything it refuses what no healthy model gives', () => {
    const trust = new Trust()
    expect(codeOf(trust, 9_999)).toBeNull()
    expect(codeOf(trust, 10_001)).toBe('norm-too-large')
    expect(codeOf(trust, 30_000, 4)).toBeNull()
  })

  it('[T2] then refuses what is twenty times as long as is usual, per minibatch', () => {
    const trust = new Trust()
    for (let i = 0; i < 32; i++) trust.accepted('ann', (4 * 5) ** 2, 4)
    expect(codeOf(trust, 99.9)).toBeNull()
    expect(codeOf(trust, 100.1)).toBe('norm-too-large')
    expect(codeOf(trust, 4 * 99.9, 4)).toBeNull()
    expect(codeOf(trust, 4 * 100.1, 4)).toBe('norm-too-large')
  })

  it('follows the norms as they shrink, but not below its floor', () => {
    const trust = new Trust()
    accept(trust, 256, 100)
    expect(codeOf(trust, 1999)).toBeNull()
    accept(trust, 6_000, 1e-6)
    expect(codeOf(trust, 0.99)).toBeNull()
    expect(codeOf(trust, 1.01)).toBe('norm-too-large')
  })

  it('does not lock everybody out: where nothing but long ones come from most, the bound gives way, up to its end', () => {
    const trust = new Trust()
    accept(trust, 48, 1)
    const refusedBefore = (norm: number) => {
      for (let refused = 0; refused < 10_000; refused++) {
        if (codeOf(trust, norm, 1, ['ann', 'bob', 'cleo'][refused % 3]) === null) return refused
      }
      return null
    }
    expect(refusedBefore(75)).toBe(64)
    expect(refusedBefore(20_000)).toBeNull()
  })

  it('[T3] believes two voices of one point, or one that is alone, that it has no loss', () => {
    const trust = new Trust()
    expect(trust.outside('eve', 3, false)?.code).toBe('non-finite')
    expect(trust.outside('eve', 3, false)?.code).toBe('non-finite')
    expect(trust.outside('eve', 4, false)?.code).toBe('non-finite')
    expect(trust.outside('ann', 4, false)).toBeNull()
    expect(trust.outside('eve', 5, true)).toBeNull()
  })

  it('[T3] is not moved by one of two volunteers', () => {
    const trust = new Trust()
    for (let norm = 1; norm < 1e4; norm *= 1.5) {
      accept(trust, 8, 1, ['ann'])
      if (codeOf(trust, norm, 1, 'eve') === null) accept(trust, 8, norm, ['eve'])
    }
    expect(codeOf(trust, 25)).toBe('norm-too-large')
  })

  it('[T2] cannot be walked up by one volunteer, neither by its updates nor by its refusals', () => {
    const trust = new Trust()
    accept(trust, 48, 1)
    for (let i = 0; i < 5_000; i++) {
      if (i % 12 > 0) accept(trust, 1, 1, [['ann', 'bob', 'cleo'][i % 3]])
      else
        for (let norm = 1e4; norm > 1; norm *= 0.9)
          if (codeOf(trust, norm, 1, 'eve') === null) trust.accepted('eve', norm ** 2, 1)
    }
    expect(codeOf(trust, 100)).toBe('norm-too-large')
    for (let i = 0; i < 5_000; i++) expect(codeOf(trust, 100, 1, 'eve')).toBe('norm-too-large')
  })
})
