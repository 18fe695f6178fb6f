/** The deep belief network's layers without pre-training: ReLU, dropout and max-norm (Srivastava et al. 2014). */
import { specOf } from '../spec-file.ts'
import { classifierRow } from './classifier.ts'
import { portions } from './portions.ts'

const CHOICE_SEED = 101
const GENTLE = { input: 0.1, hidden: 0.3 }
/** The published shares are for layers of 1024 and more. */
const PUBLISHED = { input: 0.2, hidden: 0.5 }

const spec = (seed: number, volunteers: number, dropout = GENTLE, updateRule: object = { name: 'adam', rate: 0.001 }) =>
  specOf('dropout', {
    seed,
    model: { hidden: [500, 500, 2000], dropout },
    strategy: portions(128, volunteers),
    updateRule,
    codec: { up: 'f16', down: 'f16' },
    stop: { epochs: 60 },
  })

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
    published: spec(CHOICE_SEED, volunteers, PUBLISHED),
    'published-momentum': spec(CHOICE_SEED, volunteers, PUBLISHED, { name: 'momentum', rate: 0.02, momentum: 0.95 }),
  }),
})
