/** Leases: granted, started, ended once; and what whoever asks for one is told. */
import { describe, expect, it } from 'vitest'
import { allowanceMs, type Lease, Leases } from '../../coordinator/run/leases.ts'
import { PLAIN } from '../../coordinator/strategies/strategy.ts'
import { isRefusal } from '../../shared/protocol.ts'

const HOUR_MS = 3_600_000
const binding = { version: 3, localRate: 0, continues: null }

function lease(id: string, volunteer: string, expectedMs = 1_000): Lease {
  const stretches = [{ epoch: 0, from: 0, to: 4 }]
  return {
    id,
    volunteer,
    stage: 0,
    kind: 'gradient',
    version: null,
    ...PLAIN,
    stretches,
    examples: 4,
    batchSize: 2,
    timeBoxed: true,
    patience: 1,
    expectedMs,
  }
}

const codeOf = (leases: Leases, id: string, volunteer: string) => {
  const found = leases.find(id, volunteer)
  return isRefusal(found) ? found.code : found.state
}

describe('Leases', () => {
  it('tells who asks what became of a lease', () => {
    const leases = new Leases()
    for (const id of ['a', 'b', 'c', 'd', 'e']) leases.grant(lease(id, 'ann'), 0)
    leases.start('b', 'ann', binding, 0)
    leases.end('c', 'settled')
    leases.end('d', 'given-back')
    leases.end('e', 'expired')
    const told = (volunteer: string) => ['a', 'b', 'c', 'd', 'e', 'f'].map((id) => codeOf(leases, id, volunteer))
    expect(told('ann')).toEqual([
      'granted',
      'started',
      'lease-settled',
      'lease-settled',
      'lease-expired',
      'lease-unknown',
    ])
    const foreign = 'lease-foreign'
    expect(told('bob')).toEqual([foreign, foreign, foreign, foreign, foreign, 'lease-unknown'])
    expect([...leases.all()].map(({ id }) => id)).toEqual(['a', 'b'])
  })

  it('[L3] ends a lease once', () => {
    const leases = new Leases()
    leases.grant(lease('a', 'ann'), 0)
    leases.end('a', 'settled')
    expect(() => leases.end('a', 'expired')).toThrow('invariant')
  })

  it('lets nobody start what it does not hold', () => {
    const leases = new Leases()
    leases.grant(lease('a', 'ann'), 0)
    expect(() => leases.start('a', 'bob', binding, 0)).toThrow('invariant')
    expect(() => leases.start('b', 'ann', binding, 0)).toThrow('invariant')
  })

  it('[L5] gives three times what a lease should take and at least ten seconds, from its start', () => {
    const leases = new Leases()
    leases.grant(lease('short', 'ann', 1_000), 0)
    leases.grant(lease('long', 'bob', 20_000), 0)
    expect(leases.start('short', 'ann', binding, 500).deadline).toBe(10_500)
    expect(leases.start('long', 'bob', binding, 500).deadline).toBe(60_500)
    expect(leases.expire(10_499)).toEqual([])
    expect(leases.expire(10_500).map(({ id }) => id)).toEqual(['short'])
    expect(codeOf(leases, 'short', 'ann')).toBe('lease-expired')
  })

  it('gives a lease that waits behind another one the time of both', () => {
    const leases = new Leases()
    leases.grant(lease('first', 'ann', 5_000), 0)
    expect(leases.grant(lease('second', 'ann', 1_000), 100).deadline).toBe(
      100 + allowanceMs(5_000) + allowanceMs(1_000),
    )
    expect(leases.grant(lease('other', 'bob', 1_000), 100).deadline).toBe(100 + allowanceMs(1_000))
  })

  it('moves a deadline once when an update is announced, and with every chunk that comes', () => {
    const leases = new Leases()
    leases.grant(lease('a', 'ann'), 0)
    const started = leases.start('a', 'ann', binding, 0)
    leases.announced(started, 5_000)
    expect(started.deadline).toBe(65_000)
    leases.announced(started, 60_000)
    expect(started.deadline).toBe(65_000)
    leases.extend('a', 60_000)
    expect(started.deadline).toBe(120_000)
    leases.extend('a', 1_000)
    expect(started.deadline).toBe(120_000)
  })

  it('never moves a deadline without end, so that nobody keeps others waiting for ever', () => {
    const leases = new Leases()
    leases.grant(lease('a', 'ann'), 0)
    leases.start('a', 'ann', binding, 0)
    for (let now = 0; now < 2 * HOUR_MS; now += 30_000) {
      leases.extend('a', now)
      if (leases.expire(now).length > 0) return expect(now).toBeLessThanOrEqual(HOUR_MS)
    }
    expect.fail('the lease was extended for ever')
  })

  it('counts what each volunteer holds', () => {
    const leases = new Leases()
    leases.grant(lease('a', 'ann'), 0)
    leases.grant(lease('b', 'ann'), 0)
    leases.grant(lease('c', 'bob'), 0)
    leases.start('a', 'ann', binding, 0)
    expect(['ann', 'bob', 'cid'].map((volunteer) => leases.count(volunteer))).toEqual([2, 1, 0])
    leases.end('a', 'settled')
    leases.end('b', 'expired')
    expect(leases.count('ann')).toBe(0)
    expect(leases.of('ann')).toEqual([])
  })

  it('forgets the oldest ended leases, not the held ones', () => {
    const leases = new Leases()
    leases.grant(lease('held', 'ann'), 0)
    for (let i = 0; i < 20_002; i++) {
      leases.grant(lease(`l${i}`, 'bob'), 0)
      leases.end(`l${i}`, 'settled')
    }
    expect(codeOf(leases, 'l0', 'bob')).toBe('lease-unknown')
    expect(codeOf(leases, 'l20001', 'bob')).toBe('lease-settled')
    expect(codeOf(leases, 'held', 'ann')).toBe('granted')
  })
})
