/** How far a run is, across stages whose epochs cost differently. */
import { describe, expect, it } from 'vitest'
import { shareDone } from '../../coordinator/run/progress.ts'
import { stagesOf } from '../../coordinator/run/stages.ts'
import { parseRunSpec } from '../../shared/run-spec.ts'
import { emptyDataset } from '../simulation/examples.ts'

function standing(overrides: object, index: number, progress: number): number {
  const parsed = parseRunSpec({ dataset: { name: 'mnist' }, stop: { epochs: 4 }, ...overrides })
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems))
  const { spec } = parsed
  const stages = stagesOf(spec)
  const dataset = { ...emptyDataset(spec.dataset), inputShape: [10, 10, 1] }
  return shareDone({ spec, stages, dataset, stage: { index, plan: stages[index], progress } })
}

describe('the share of a run that is done', () => {
  it('is that of its epochs where there is one stage, and never more than all', () => {
    const model = { template: 'softmax' }
    expect([0, 1, 4, 4.2].map((epoch) => standing({ model }, 0, epoch))).toEqual([0, 0.25, 1, 1])
  })

  it('weighs stages by the multiplications of an example', () => {
    // RBMs of 100·20 and 20·10 weights: CD-1 5·2000, then 2000 below and 5·200; the network 3·2200. Epochs 2, 2, 4.
    const run = { model: { template: 'mlp', hidden: [20, 10], activation: 'sigmoid' }, pretrain: { epochs: 2 } }
    const whole = 2 * 10_000 + 2 * 3_000 + 4 * 6_600
    expect(standing(run, 0, 1)).toBeCloseTo(10_000 / whole, 12)
    expect(standing(run, 1, 0)).toBeCloseTo(20_000 / whole, 12)
    expect(standing(run, 1, 0.5)).toBeCloseTo(21_500 / whole, 12)
    expect(standing(run, 2, 1)).toBeCloseTo(32_600 / whole, 12)
    expect(standing(run, 2, 4)).toBe(1)
  })

  it('counts the steps of CD-k, and both halves of an autoencoder', () => {
    const model = { template: 'autoencoder', hidden: [20] }
    const run = { model, pretrain: { epochs: 1, contrastive: { steps: 3 } } }
    expect(standing(run, 1, 0)).toBeCloseTo((9 * 2000) / (9 * 2000 + 4 * 6 * 2000), 12)
  })
})
