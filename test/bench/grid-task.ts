/** What the grid benchmark trains: the founding document's net, at its batch size. */
import type { ModelSpec } from '../../shared/models.ts'

export const GRID: { model: ModelSpec; batchSize: number; rate: number } = {
  model: { template: 'mlp', hidden: [500, 500, 2000], activation: 'relu' },
  batchSize: 100,
  rate: 0.05,
}
