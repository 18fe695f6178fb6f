/** LeNet-5 on MNIST without augmentation: its modern form, and the one of 1998. */
import type { RunSpec } from '../../../../shared/run-spec.ts'
import { CHOICE_SEED } from '../row.ts'
import { specOf } from '../spec-file.ts'
import { classifierRow } from './classifier.ts'
import { portions } from './portions.ts'

const BATCH = 128

interface Changes {
  readonly rate?: number
  readonly batch?: number
}

const modern = (seed: number, volunteers: number, { batch = BATCH, ...changes }: Changes = {}): RunSpec =>
  specOf('lenet-synchronous', { seed, strategy: portions(batch, volunteers), updateRule: { name: 'adam', ...changes } })

export const lenet = classifierRow({
  name: 'lenet',
  title: 'LeNet-5, modern form, no augmentation',
  spec: (seed, volunteers) => modern(seed, volunteers),
  shows: 'error',
  reference: 0.95,
  source: 'LeCun et al. 1998, the classic form; 0.8 to 1.0 for the modern one',
  reach: 0.95,
  aim: 0.8,
  grid: (volunteers) =>
    Object.fromEntries(
      [64, 128].flatMap((batch) =>
        [0.001, 0.002].map((rate) => [`rate-${rate}-batch-${batch}`, modern(CHOICE_SEED, volunteers, { rate, batch })]),
      ),
    ),
})

const classic = (seed: number, volunteers: number, changes: Pick<Changes, 'rate'> = {}): RunSpec =>
  specOf('lenet-classic', { seed, strategy: portions(BATCH, volunteers), updateRule: { name: 'adam', ...changes } })

export const lenetClassic = classifierRow({
  name: 'lenet-classic',
  title: 'LeNet-5 as of 1998, no augmentation',
  spec: (seed, volunteers) => classic(seed, volunteers),
  shows: 'error',
  reference: 0.95,
  source: 'LeCun et al. 1998',
  reach: 1.1,
  aim: 0.95,
  grid: (volunteers) =>
    Object.fromEntries(
      [0.001, 0.003, 0.006].map((rate) => [`rate-${rate}`, classic(CHOICE_SEED, volunteers, { rate })]),
    ),
})
