/** Trust: what is checked of an update's numbers before they are believed. */
import { describe, expect, it } from 'vitest'
import { Trust } from '../../coordinator/run/trust.ts'

const codeOf = (trust: Trust, norm: number, minibatches = 1) => trust.judge(norm * norm, minibatches)?.code ?? null

describe('Trust', () => {
  it('[T2] refuses what is not finite', () => {
    const trust = new Trust()
    for (const sum of [Number.NaN, Number.POSITIVE_INFINITY]) expect(trust.judge(sum, 1)?.code).toBe('non-finite')
    expect(trust.judge(0, 1)).toBeNull()
  })

  it('[T2] before it knows anything it refuses what no healthy model gives', () => {
    const trust = new Trust()
    expect(codeOf(trust, 9_999)).toBeNull()
    expect(codeOf(trust, 10_001)).toBe('norm-too-large')
    expect(codeOf(trust, 30_000, 4)).toBeNull()
  })

  it('[T2] then refuses what is ten times as long as the long ones, per minibatch', () => {
    const trust = new Trust()
    for (let i = 0; i < 32; i++) trust.accepted((4 * 5) ** 2, 4)
    expect(codeOf(trust, 49.9)).toBeNull()
    expect(codeOf(trust, 50.1)).toBe('norm-too-large')
    expect(codeOf(trust, 4 * 49.9, 4)).toBeNull()
    expect(codeOf(trust, 4 * 50.1, 4)).toBe('norm-too-large')
  })

  it('follows the norms as they shrink, but not below its floor', () => {
    const trust = new Trust()
    for (let i = 0; i < 256; i++) trust.accepted(100, 1)
    expect(codeOf(trust, 99)).toBeNull()
    for (let i = 0; i < 256; i++) trust.accepted(1e-6, 1)
    expect(codeOf(trust, 0.99)).toBeNull()
    expect(codeOf(trust, 1.01)).toBe('norm-too-large')
  })

  it('does not lock everybody out: where nothing but long ones come, the bound gives way', () => {
    const trust = new Trust()
    for (let i = 0; i < 32; i++) trust.accepted(1, 1)
    const refusedBefore = (norm: number) => {
      for (let refused = 0; ; refused++) if (codeOf(trust, norm) === null) return refused
    }
    expect(refusedBefore(35)).toBe(64)
    trust.accepted(35 ** 2, 1)
    for (let i = 0; i < 31; i++) expect(codeOf(trust, 1000)).toBe('norm-too-large')
    trust.accepted(1, 1)
    expect(codeOf(trust, 1000)).toBe('norm-too-large')
    expect(codeOf(trust, 41)).toBe('norm-too-large')
  })

  it('is not moved by a few long ones', () => {
    const trust = new Trust()
    for (let i = 0; i < 320; i++) trust.accepted(i % 32 === 0 ? 9 ** 2 : 1, 1)
    expect(codeOf(trust, 10.1)).toBe('norm-too-large')
  })
})
