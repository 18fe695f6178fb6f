/** The small convolutional network without batch normalisation, augmented: on MNIST, and on Fashion-MNIST. */
import { CHOICE_SEED } from '../row.ts'
import { specOf } from '../spec-file.ts'
import { classifierRow } from './classifier.ts'
import { portions } from './portions.ts'

const BATCH = 128
const RATES = [0.001, 0.0015, 0.002]

const spec = (file: string, seed: number, volunteers: number, changes: Record<string, unknown> = {}) =>
  specOf(file, { seed, strategy: portions(BATCH, volunteers), ...changes })

export const cnn = classifierRow({
  name: 'cnn',
  title: 'Small CNN, augmented, on MNIST',
  spec: (seed, volunteers) => spec('cnn', seed, volunteers),
  shows: 'error',
  reference: 0.4,
  source: 'Simard et al. 2003, elastic distortions',
  reach: 0.6,
  aim: 0.4,
  grid: (volunteers) =>
    Object.fromEntries(
      RATES.map((rate) => [
        `rate-${rate}`,
        spec('cnn', CHOICE_SEED, volunteers, { updateRule: { name: 'adam', rate } }),
      ]),
    ),
})

export const cnnFashion = classifierRow({
  name: 'cnn-fashion',
  title: 'Small CNN, augmented, on Fashion-MNIST',
  spec: (seed, volunteers) => spec('cnn-fashion', seed, volunteers),
  shows: 'accuracy',
  reference: 92.5,
  source: "Fashion-MNIST's list, two convolutions, under 113,000 parameters",
  reach: 92,
  aim: 93.5,
  grid: (volunteers) => ({
    // The row's first setting, which was given up for what it did to the test examples, and what it was given up for.
    smaller: spec('cnn-fashion', CHOICE_SEED, volunteers, {
      model: { filters: [16, 32] },
      augment: { shift: 2 },
      stop: { epochs: 12 },
    }),
    larger: spec('cnn-fashion', CHOICE_SEED, volunteers),
  }),
})
