/** The small convolutional network without batch normalisation, augmented: on MNIST, and on Fashion-MNIST. */
import { specOf } from '../spec-file.ts'
import { classifierRow } from './classifier.ts'
import { portions } from './portions.ts'

const BATCH = 128
const CHOICE_SEED = 101
const RATES = [0.0007, 0.001, 0.0015]

const spec = (file: string, seed: number, volunteers: number, rate?: number) =>
  specOf(file, {
    seed,
    strategy: portions(BATCH, volunteers),
    ...(rate === undefined ? {} : { updateRule: { name: 'adam', rate } }),
  })
const grid = (file: string) => (volunteers: number) =>
  Object.fromEntries(RATES.map((rate) => [`rate-${rate}`, spec(file, CHOICE_SEED, volunteers, rate)]))

export const cnn = classifierRow({
  name: 'cnn',
  title: 'Small CNN, augmented, on MNIST',
  spec: (seed, volunteers) => spec('cnn', seed, volunteers),
  shows: 'error',
  reference: 0.4,
  source: 'Simard et al. 2003, elastic distortions',
  reach: 0.6,
  aim: 0.4,
  grid: grid('cnn'),
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
  grid: grid('cnn-fashion'),
})
