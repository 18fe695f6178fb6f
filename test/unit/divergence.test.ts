/** When training has diverged, by the losses that volunteers report. */
import { describe, expect, it } from 'vitest'
import { Divergence, knowingNothing } from '../../coordinator/run/divergence.ts'
import { buildModel, buildRbm } from '../../shared/models.ts'

const shape = { inputShape: [28, 28, 1], classes: 10 }
const NOTHING = Math.log(10)

/** What comes of these losses, each of a volunteer in turn. */
function told(divergence: Divergence, losses: readonly (readonly [string, number])[]): string | null {
  let said: string | null = null
  for (const [volunteer, loss] of losses) said = divergence.observe(volunteer, loss) ?? said
  return said
}
const times = (count: number, ...losses: [string, number][]) => Array.from({ length: count }, () => losses).flat()

describe('divergence [T4]', () => {
  it('is a loss twenty times what knows nothing has, for a while', () => {
    const divergence = new Divergence(NOTHING)
    expect(told(divergence, times(8, ['ann', 2.3]))).toBeNull()
    expect(told(divergence, times(1, ['ann', 1e6]))).toBeNull()
    expect(told(divergence, times(100, ['ann', 40]))).toBeNull()
    expect(divergence.suspected).toBe(true)
    expect(told(divergence, times(8, ['ann', 1e3]))).toMatch(/^training diverged: .* lower the rate$/)
  })

  it('is a matter of the crowd: one volunteer says what it likes, however often', () => {
    const divergence = new Divergence(NOTHING)
    told(divergence, times(8, ['eve', 0]))
    expect(told(divergence, times(200, ['ann', 2.3], ['eve', 1e30], ['eve', 1e30], ['eve', 1e30]))).toBeNull()
    expect(divergence.suspected).toBe(false)
    expect(told(divergence, times(20, ['ann', 1e3], ['eve', 0], ['bob', 1e3]))).toMatch(/^training diverged/)
  })

  it('that comes with the first updates is no measure of itself', () => {
    const divergence = new Divergence(NOTHING)
    expect(told(divergence, times(1, ['ann', 2.3]))).toBeNull()
    expect(told(divergence, times(30, ['ann', 1e9], ['bob', 1e9]))).toMatch(/^training diverged/)
  })

  it.each([1, 63, 64, 65, 500])('is found in a crowd of %i that take turns', (size) => {
    const divergence = new Divergence(NOTHING)
    const crowd = (loss: number) => Array.from({ length: size }, (_, i) => [`v${i}`, loss] as [string, number])
    expect(told(divergence, times(Math.ceil(100 / size), ...crowd(2.3)))).toBeNull()
    expect(told(divergence, times(Math.ceil(700 / size), ...crowd(1e30)))).toMatch(/^training diverged/)
  })

  it('hears only who still takes part', () => {
    const divergence = new Divergence(NOTHING)
    told(divergence, times(20, ['ann', 2.3], ['bob', 2.3], ['cleo', 2.3]))
    expect(told(divergence, times(80, ['dan', 1e3]))).toMatch(/^training diverged/)
  })

  it('is found at the same update after a recovery', () => {
    const losses = times(12, ['ann', 2.3], ['bob', 2.5], ['ann', 90], ['bob', 400])
    for (let cut = 0; cut < losses.length; cut++) {
      const whole = new Divergence(NOTHING)
      const first = new Divergence(NOTHING)
      for (const [volunteer, loss] of losses.slice(0, cut)) first.observe(volunteer, loss)
      for (const [volunteer, loss] of losses.slice(0, cut)) whole.observe(volunteer, loss)
      const second = new Divergence(NOTHING, JSON.parse(JSON.stringify(first)))
      for (const [volunteer, loss] of losses.slice(cut)) {
        expect(second.observe(volunteer, loss)).toBe(whole.observe(volunteer, loss))
      }
    }
  })

  it('is measured against what knows nothing: equally likely classes, grey pixels', () => {
    const of = (model: Parameters<typeof buildModel>[0]) => knowingNothing(buildModel(model, shape, null))
    expect(of({ template: 'softmax' })).toBeCloseTo(Math.log(10))
    const stack = { template: 'autoencoder', hidden: [20, 5], code: 'linear' } as Parameters<typeof buildModel>[0]
    expect(of(stack)).toBeCloseTo(784 * Math.LN2)
    const once = { steps: 1, persistent: false, visible: 'probabilities', initial: 0.1 } as const
    expect(knowingNothing(buildRbm(stack, 0, shape, null, once))).toBe(196)
  })
})
