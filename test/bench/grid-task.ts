/** What the grid benchmark trains: the founding document's net, at its batch size. */
import type { ModelSpec } from '../../shared/run-spec.ts'

export const GRID: { model: ModelSpec; batchSize: number; rate: number } = {
  model: {
    ...{ template: 'mlp', hidden: [500, 500, 2000], activation: 'relu' },
    ...{ initializer: 'glorot', dropout: { input: 0, hidden: 0 } },
  },
  batchSize: 100,
  rate: 0.05,
}
