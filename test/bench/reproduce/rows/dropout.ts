/** The deep belief network's layers without pre-training: ReLU, dropout and max-norm (Srivastava et al. 2014). */
import { CHOICE_SEED } from '../row.ts'
import { specOf } from '../spec-file.ts'
import { classifierRow } from './classifier.ts'
import { portions } from './portions.ts'

/** The published shares are for layers of 1024 and more. */
const PUBLISHED = { dropout: { input: 0.2, hidden: 0.5 } }

const spec = (seed: number, volunteers: number, changes: Record<string, unknown> = {}) =>
  specOf('dropout-gentle', { seed, strategy: portions(128, volunteers), ...changes })

export const dropout = classifierRow({
  name: 'dropout',
  title: 'MLP 784-500-500-2000-10 with dropout and max-norm',
  spec: (seed, volunteers) => spec(seed, volunteers),
  shows: 'error',
  reference: 1.06,
  source: 'Srivastava et al. 2014, 3 × 1024 ReLU, 1 M steps',
  reach: 1.35,
  aim: 1.2,
  grid: (volunteers) => ({
    gentle: spec(CHOICE_SEED, volunteers),
    published: spec(CHOICE_SEED, volunteers, { model: PUBLISHED }),
    'published-momentum': spec(CHOICE_SEED, volunteers, {
      model: PUBLISHED,
      updateRule: { name: 'momentum', rate: 0.02, momentum: 0.95, early: {} },
    }),
  }),
})
